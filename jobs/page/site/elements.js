// Small parts of the page, made of elements. Whatever has a name from outside becomes text, never markup.

/** An element with properties and children; strings become text. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A square in a colour, or hatched for none. */
export function swatch(color) {
  const made = element('span', {className: color ? 'swatch' : 'swatch none'});
  if (color) made.style.backgroundColor = color;
  return made;
}

/** Fill a select with [value, label] pairs and choose one. */
export function fill(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, label]) => element('option', {value, textContent: label})));
  select.value = chosen;
}

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [300, 110, 44, 18];
const EDGE = '#888';

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A drawing of classes by date, a box for each: [{day, color, name}]. */
export function classStrip(points) {
  const wide = (WIDTH - 2) / points.length;
  const made = svg('svg', {
    viewBox: `0 0 ${WIDTH} 40`,
    role: 'img',
    'aria-label': points.map((p) => `${p.day}: ${p.name}`).join('; '),
  });
  points.forEach((point, at) => {
    const box = svg('rect', {
      x: 1 + at * wide,
      y: 1,
      width: Math.max(1, wide - 1),
      height: 22,
      fill: point.color,
      stroke: EDGE,
    });
    box.append(svg('title', {}, `${point.day}: ${point.name}`));
    made.append(box);
  });
  made.append(
    svg('text', {x: 1, y: 37}, points[0].day),
    svg('text', {x: WIDTH - 1, y: 37, 'text-anchor': 'end'}, points.at(-1).day),
  );
  return made;
}

/** A drawing of lines over dates: lines are [{name, color, values}], a value for each day or null. */
export function lineChart(days, lines, unit) {
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const [low, high] = [Math.min(0, ...values), Math.max(...values, 1e-9)];
  const said = (value) => value?.toLocaleString('en', {maximumSignificantDigits: 3}) ?? 'unknown';
  const times = days.map((day) => Date.parse(day));
  const x = (at) => LEFT + ((times[at] - times[0]) / Math.max(1, times.at(-1) - times[0])) * (WIDTH - LEFT - 6);
  const y = (value) => 6 + ((high - value) / (high - low)) * (HEIGHT - BOTTOM - 8);
  const made = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': lines.map((line) => `${line.name}: ${said(line.values[0])} to ${said(line.values.at(-1))}`).join('; '),
  });
  for (const value of [low, (low + high) / 2, high]) {
    made.append(
      svg('line', {x1: LEFT, x2: WIDTH - 6, y1: y(value), y2: y(value), class: 'grid'}),
      svg('text', {x: LEFT - 4, y: y(value) + 4, 'text-anchor': 'end'}, said(value)),
    );
  }
  for (const line of lines) {
    const points = line.values.map((value, at) => (value === null ? null : [x(at), y(value)])).filter(Boolean);
    const places = points.map((p) => p.join()).join(' ');
    const drawn = (stroke, wide) => svg('polyline', {points: places, fill: 'none', stroke, 'stroke-width': wide});
    made.append(drawn(EDGE, 3.2), drawn(line.color, 2)); // a class may be as white, or as dark, as the page
    for (const [cx, cy] of points)
      made.append(svg('circle', {cx, cy, r: 2.7, fill: line.color, stroke: EDGE, 'stroke-width': 0.6}));
  }
  made.append(
    svg('text', {x: LEFT, y: HEIGHT - 3}, days[0]),
    svg('text', {x: WIDTH - 6, y: HEIGHT - 3, 'text-anchor': 'end'}, days.at(-1)),
    svg('title', {}, unit),
  );
  return made;
}
