"""The look of a run's page, light and dark. It loads nothing: no font, no script, no other file."""

STYLE = """
:root{color-scheme:light dark;--ink:#18212b;--quiet:#5c6b79;--line:#dfe4e9;--paper:#fff;--tint:#f4f6f8;--accent:#1f6fb4;
--c-done:#2e8b57;--c-new:#1f6fb4;--c-running:#d9a400;--c-waiting:#c3cbd3;--c-refused:#b7791f;--c-failed:#c53030;--c-unfinished:#8a5fb0}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--quiet:#9aa8b5;--line:#2d3843;--paper:#12181f;--tint:#1b232c;
--accent:#6cb2ee;--c-done:#4cc38a;--c-new:#6cb2ee;--c-running:#f0c040;--c-waiting:#46525e;--c-refused:#e0a84e;--c-failed:#ff7b72;
--c-unfinished:#b794e0}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 24px 60px}h1{font-size:26px;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:18px;margin:34px 0 10px;padding-bottom:6px;border-bottom:1px solid var(--line)}
p{margin:6px 0;color:var(--quiet);max-width:80ch;overflow-wrap:anywhere}p.verdict{color:var(--ink);font-size:17px}
a{color:var(--accent)}code{font:13px ui-monospace,monospace}
.pill{display:inline-block;border-radius:20px;padding:1px 12px;font-size:14px;font-weight:600;color:var(--paper);
vertical-align:4px;margin-left:10px;background:var(--quiet)}.pill.done{background:var(--c-done)}
.pill.failed{background:var(--c-failed)}
.pill.running{background:var(--accent)}.pill.stopped{background:var(--c-refused)}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}.card{background:var(--tint);border-radius:8px;padding:10px 16px;
min-width:128px}.card b{display:block;font-size:23px;font-variant-numeric:tabular-nums}.card span{color:var(--quiet);
font-size:13px}.bar{display:flex;height:14px;border-radius:7px;overflow:hidden;background:var(--tint)}.bar i{display:block}
.key{font-size:13px;color:var(--quiet);margin:8px 0 14px}.key span{margin-right:16px;white-space:nowrap}
.key i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}td,th{padding:5px 10px;text-align:right;
border-bottom:1px solid var(--line);vertical-align:top}th{font-size:13px;font-weight:600;color:var(--quiet)}
td:first-child,th:first-child{text-align:left;overflow-wrap:anywhere;min-width:8em}.wide{overflow-x:auto}
.wide svg{min-width:640px}
.trouble{border-left:3px solid var(--c-failed);
padding:2px 0 2px 12px;margin:14px 0}
.trouble.refused{border-color:var(--c-refused)}
.trouble.known{border-color:var(--c-waiting)}.trouble p{color:var(--ink)}
.trouble small{color:var(--quiet);overflow-wrap:anywhere}
svg{display:block;max-width:100%}svg text{font:12px system-ui,sans-serif;fill:var(--quiet)}
@media print{*{print-color-adjust:exact}.trouble,tr,.card{break-inside:avoid}}
"""
