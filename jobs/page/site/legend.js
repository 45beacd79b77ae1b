// The legend: what colours mean, how much ground they cover, and how that went over the dates in view.

import {area, areaUnit, daysOf, percent, rowsOf} from './catalogue.js';
import {element, lineChart, swatch} from './elements.js';
import {bandsShown, ramp} from './map.js';

/** Lines for a raster of the rows that are drawn. `toggled` is told when a class is shown or hidden; none: no boxes. */
export function legend(rows, raster, hidden, toggled) {
  if (!raster) return [];
  return raster.classes ? classLines(rows, raster, hidden, toggled) : imageLines(raster);
}

function classLines(rows, raster, hidden, toggled) {
  const sum = (value) => rows.reduce((total, row) => total + (row.areas?.[value] || 0), 0);
  const sums = raster.classes.map((one) => sum(one.value));
  const whole = sums.reduce((total, one) => total + one, 0);
  const unit = areaUnit(Math.max(...sums));
  return raster.classes.map((one, at) => {
    const parts = [swatch(one.color), element('span', {textContent: one.name})];
    if (toggled) {
      const box = element('input', {
        type: 'checkbox',
        checked: !hidden.has(one.value),
        onchange: () => {
          if (box.checked) hidden.delete(one.value);
          else hidden.add(one.value);
          toggled();
        },
      });
      parts.unshift(box);
    }
    const sure = rows.length === 1 && rows[0].confidence?.[one.value];
    return element(
      'li',
      {},
      element('label', {}, ...parts),
      element('span', {
        className: 'size',
        title: sure ? `mean confidence ${(100 * sure).toFixed(1)} %` : '',
        textContent: whole ? `${area(sums[at], unit)} · ${percent((100 * sums[at]) / whole)}` : '',
      }),
    );
  });
}

function imageLines(raster) {
  const bands = bandsShown(raster);
  const value = (band, stored) =>
    (stored * (band.scale ?? 1) + (band.offset ?? 0)).toLocaleString('en', {maximumSignificantDigits: 3});
  const ends = (band) =>
    element('span', {
      textContent: `${band.name}${band.range ? `: ${value(band, band.range[0])} to ${value(band, band.range[1])}` : ''}`,
    });
  if (bands.length === 1) return [element('li', {className: 'ramp'}, ...ramp().map(swatch), ends(bands[0]))];
  return bands.map((band, at) =>
    element('li', {className: 'ramp'}, swatch(['#e00000', '#00a000', '#0000e0'][at]), ends(band)),
  );
}

/** Dates that know less than this share of what the fullest one knows are no points of the chart (jobs/monitoring/series/plot.py). */
const SEEN = 0.9;

/** How the areas of classes that are not hidden went over the dates of rows; null for fewer than two dates. */
export function areasOverTime(rows, raster, hidden) {
  const days = daysOf(rows.filter((row) => row.day && row.areas));
  if (days.length < 2 || !raster?.classes) return null;
  const sum = (day, value) => rowsOf(rows, day).reduce((total, row) => total + (row.areas?.[value] || 0), 0);
  const known = days.map((day) => raster.classes.reduce((total, one) => total + sum(day, one.value), 0));
  const seen = known.map((one) => one >= SEEN * Math.max(...known));
  const left = seen.filter((one) => !one).length;
  const without = `; without ${left} of ${days.length} dates, which know less than 90 % of what the fullest one knows`;
  const shown = raster.classes.filter((one) => !hidden.has(one.value));
  const lines = shown.map((one) => ({
    name: one.name,
    color: one.color,
    values: days.map((day, at) => (seen[at] ? sum(day, one.value) / 1e6 : null)),
  }));
  return element(
    'div',
    {},
    element('p', {className: 'note', textContent: `km² over the dates in view${left ? without : ''}`}),
    lineChart(days, lines, 'km²'),
  );
}
