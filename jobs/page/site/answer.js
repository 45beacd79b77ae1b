// What lies at one place: class, confidence, values of images of that day, and the series of dates.

import {area, meet, daysOf, rowsOf} from './catalogue.js';
import {isMissing, readPixel} from './map.js';
import {classStrip, element, lineChart, swatch} from './elements.js';

const MOST_DATES = 60;
const MOST_VECTORS = 5;
const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']; // Okabe and Ito
const here = (row, [lon, lat]) => meet(row.bbox, [lon - 1e-9, lat - 1e-9, lon + 1e-9, lat + 1e-9]);
/** What a stored value says; null of no data, which one band may have where another has some. */
const meaning = (band, value) => (isMissing(band, value) ? null : value * (band.scale ?? 1) + (band.offset ?? 0));
const angle = (value, [plus, minus]) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
const number = (value) => value?.toLocaleString('en', {maximumSignificantDigits: 4}) ?? 'no data';

/** Tell of a place, first what is quick. `stale` says that another place was asked for meanwhile. */
export async function answer(target, lonLat, {drawn, group, raster, all, vectors, stale}) {
  target.hidden = false;
  const place = `${angle(lonLat[1], 'NS')}, ${angle(lonLat[0], 'EW')}`;
  const close = element('button', {
    type: 'button',
    textContent: '×',
    title: 'Close (Esc)',
    ariaLabel: 'Close',
    onclick: () => {
      target.hidden = true;
    },
  });
  const body = element('div', {}, element('p', {className: 'note', textContent: 'reading …'}));
  target.replaceChildren(element('header', {}, element('h2', {textContent: place}), close), body);
  const parts = [];
  let found = null;
  for (const row of drawn.filter((one) => here(one, lonLat))) {
    const read = await Promise.all(row.rasters.map((one) => readPixel(row, one, lonLat)));
    if (stale()) return;
    if (read.every((values) => values === null)) continue;
    found = row;
    parts.push(valuesOf(row, read));
    break;
  }
  parts.push(...vectors.slice(0, MOST_VECTORS).map(vectorOf));
  if (!found) parts.push(element('p', {textContent: 'No data here on this date.'}));
  body.replaceChildren(...parts);
  const told = new Set(found ? [found.path] : []); // a cube's date is the same files under another name
  const others = all
    .filter(
      (row) =>
        row.rasters &&
        row.group !== group &&
        found &&
        row.day === found.day &&
        here(row, lonLat) &&
        !row.rasters.some((one) => one.classes) &&
        !told.has(row.path) &&
        told.add(row.path),
    )
    .slice(0, 4);
  for (const row of others) {
    const read = await Promise.all(row.rasters.map((one) => readPixel(row, one, lonLat)));
    if (stale()) return;
    if (read.some((values) => values !== null))
      body.append(element('h3', {textContent: row.group}), valuesOf(row, read));
  }
  const series = await seriesOf(
    all.filter((row) => row.group === group && here(row, lonLat)),
    raster,
    lonLat,
    stale,
  );
  if (!stale() && series) body.append(element('h3', {textContent: 'Over time'}), series);
}

/** What an alert or an object says of itself. */
function vectorOf(said) {
  const known = Object.entries(said).filter(
    ([name, value]) => value !== null && value !== undefined && typeof value !== 'object' && name !== 'area_px',
  );
  return element(
    'div',
    {},
    element('h3', {textContent: said.state ? 'Alert' : 'Object'}),
    element(
      'dl',
      {},
      ...known.flatMap(([name, value]) => [
        element('dt', {textContent: name.replaceAll('_', ' ').replace(/ m2$/, '')}),
        element('dd', {
          textContent:
            name === 'area_m2'
              ? area(value)
              : typeof value === 'number'
                ? number(value)
                : String(value).replace(/T00:00:00(\.0+)?Z?$/, ''),
        }),
      ]),
    ),
  );
}

/** What the rasters of a row say, a line for each. */
function valuesOf(row, read) {
  const lines = row.rasters.flatMap((raster, at) =>
    read[at] === null ? [] : raster.bands.map((band, number) => line(raster, band, read[at][number])),
  );
  return element(
    'div',
    {},
    element('p', {className: 'note', textContent: `${row.scene || row.id}${row.day ? `, ${row.day}` : ''}`}),
    element('dl', {}, ...lines.flat()),
  );
}

function line(raster, band, value) {
  if (raster.classes) {
    const named = raster.classes.find((one) => one.value === value);
    return [
      element('dt', {textContent: 'class'}),
      element('dd', {className: 'class'}, swatch(named?.color), named ? named.name : `value ${value}`),
    ];
  }
  const text = band.name === 'confidence' ? `${number(100 * meaning(band, value))} %` : number(meaning(band, value));
  return [element('dt', {textContent: band.name}), element('dd', {textContent: text})];
}

async function seriesOf(rows, raster, lonLat, stale) {
  const days = daysOf(rows).filter(Boolean).slice(-MOST_DATES);
  if (days.length < 2) return null;
  const points = [];
  await Promise.all(
    days.map(async (day) => {
      for (const row of rowsOf(rows, day)) {
        const own = row.rasters.find((one) => one.name === raster.name);
        const values = own && !stale() ? await readPixel(row, own, lonLat) : null;
        if (values) {
          points.push({day, values, raster: own});
          break;
        }
      }
    }),
  );
  points.sort((a, b) => (a.day < b.day ? -1 : 1));
  if (points.length < 2) return null;
  if (raster.classes)
    return classStrip(
      points.map(({day, values, raster: {classes}}) => {
        const named = classes.find((one) => one.value === values[0]);
        return {day, color: named?.color ?? '#fff', name: named?.name ?? `value ${values[0]}`};
      }),
    );
  const lines = raster.bands.map((band, at) => ({
    name: band.name,
    color: COLORS[at % COLORS.length],
    values: points.map((point) => meaning(point.raster.bands[at] ?? band, point.values[at])),
  }));
  return element(
    'div',
    {},
    lineChart(
      points.map((point) => point.day),
      lines,
      '',
    ),
    keys(lines),
  );
}

/** Which line is which. */
export const keys = (lines) =>
  element('p', {className: 'keys'}, ...lines.flatMap(({name, color}) => [swatch(color), `${name} `]));
