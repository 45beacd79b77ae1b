// What there is to show: the rows of all indices, read once, and questions about them. Knows nothing of the map.

/** The rows of every collection that the catalog links, each with its collection's title. */
export async function readCatalogue() {
  const catalog = await json('catalog.json');
  const children = catalog.links.filter((link) => link.rel === 'child' && ours(link.href)).map((link) => link.href);
  const read = await Promise.allSettled(children.map((href) => json(href.replace(/collection\.json$/, 'page.json'))));
  const missing = children.filter((_, at) => read[at].status === 'rejected');
  const rows = read.flatMap((one) =>
    one.status === 'rejected'
      ? []
      : one.value.rows.map((row) => ({...row, title: one.value.title, day: row.start ? row.start.slice(0, 10) : ''})),
  );
  return {title: catalog.title, rows: [...rows, ...datesOfCubes(rows)], missing};
}

/** A cube's dates as rows: the maps that each date was made of, under the name of the cube. */
function datesOfCubes(rows) {
  const places = new Map(rows.map((row) => [row.path, row]));
  return rows.flatMap(({group, steps = []}) =>
    steps.flatMap(([day, paths]) =>
      paths.flatMap((path) => (places.has(path) ? [{...places.get(path), group, day, superseded: false}] : [])),
    ),
  );
}

const ours = (href) => /^\.\/(collections|monitors)\/[^?#]+\/collection\.json$/.test(href) && !href.includes('..');

async function json(address) {
  const answer = await fetch(address, {cache: 'no-cache'});
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

/** Where a file of a row lies. Scene ids are whatever users call their files. */
export const address = (row, file) =>
  new URL([...row.path.split('/'), file].map(encodeURIComponent).join('/'), document.baseURI).href;

/** Rows by what they are listed under, those that can be drawn, in order of their names. */
export function groupsOf(rows) {
  const groups = new Map();
  for (const row of rows.filter((one) => one.rasters)) {
    groups.set(row.group, [...(groups.get(row.group) || []), row]);
  }
  return new Map([...groups].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Whether two boxes (west, south, east, north, in degrees) meet; a box may cross the date line, west > east. */
export function meet(a, b) {
  return a[1] < b[3] && b[1] < a[3] && spans(a).some(([w, e]) => spans(b).some(([v, f]) => w < f && v < e));
}

const spans = ([west, , east]) =>
  west <= east
    ? [[west, east]]
    : [
        [west, 180],
        [-180, east],
      ];

/** The days of rows, each once, in order; undated ones come first, as ''. */
export const daysOf = (rows) => [...new Set(rows.map((row) => row.day))].sort();

/** A day, or the period of a composite, for people. */
export function dayLabel(rows, day) {
  if (!day) return 'no date known';
  const end = rows.find((row) => row.day === day)?.end?.slice(0, 10);
  return end && end !== day ? `${day} – ${end}` : day;
}

/** Rows without those that a later result of their scene supersedes; `wanted`, if it is one of these, in its place. */
export function current(rows, wanted) {
  const asked = rows.find((row) => row.id === wanted);
  return rows.filter((row) => row === asked || !(row.superseded || (asked?.superseded && row.scene === asked.scene)));
}

/** Rows of a day. */
export const rowsOf = (rows, day) => rows.filter((row) => row.day === day);

const UNITS = [
  {name: 'km²', size: 1e6, least: 1e7},
  {name: 'ha', size: 1e4, least: 1e3},
  {name: 'm²', size: 1, least: 0},
];

/** The unit in which an area in m² reads best, by the rule of all other tables and pictures (jobs/products/areas.py). */
export const areaUnit = (m2) => UNITS.find(({least}) => Math.abs(m2) >= least);

/** `1,234 km²`, `56.7 ha`: three significant digits, rounded and grouped as everywhere else. */
export function area(m2, {name, size} = areaUnit(m2)) {
  const [value, most] = [m2 / size, Math.abs(m2 / size)];
  return `${fixed(value, most >= 100 ? 0 : most >= 10 ? 1 : 2)} ${name}`;
}

/** `41.2 %`; what is there but rounds to nothing reads `<0.1 %`. */
export const percent = (value) => (value > 0 && value < 0.05 ? '<0.1 %' : `${fixed(value, 1)} %`);

/** A number of so many decimals, rounded as Python does: of two that are as near the even one, where toFixed has the larger. */
function fixed(value, digits) {
  const halves = value * 2 ** (digits + 1); // exact, and odd where two are as near
  const below = (halves * 5 ** digits - 1) / 2;
  const nearest = halves % 2 === 1 && below % 2 === 0 ? below / 10 ** digits : value;
  return Number(nearest.toFixed(digits)).toLocaleString('en', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}
