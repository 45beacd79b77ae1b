// The page: what is chosen, kept in the address so that it can be shared, and what follows from it.

import {answer} from './answer.js';
import {current, dayLabel, daysOf, groupsOf, meet, readCatalogue, rowsOf} from './catalogue.js';
import {element, fill} from './elements.js';
import {areasOverTime, legend} from './legend.js';
import * as maps from './map.js';
import {read, write} from './sharing.js';
import {listVectors} from './vectors.js';

const MOST_DRAWN = 12;
const MOST_LISTED = 200;
const PLAY_MS = 900;
const by = (id) => document.getElementById(id);
const chosen = {
  group: '',
  day: '',
  scene: '',
  raster: '',
  otherGroup: '',
  otherDay: '',
  opacity: 100,
  split: 500,
  features: new Set(),
};
const hidden = new Set(); // class values that are not drawn
let [map, catalogue, groups, days] = [null, null, new Map(), []];
let drawn = {left: [], right: []}; // of {row, raster, layer}
let [asked, drawing, timer, playing] = [0, 0, null, null];

async function begin() {
  maps.useLibraries(JSON.parse(document.body.dataset.libraries));
  theme(localStorage.getItem('theme') || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
  say('Loading …');
  [catalogue, map] = await Promise.all([readCatalogue(), maps.createMap('map', {moved, clicked})]);
  groups = groupsOf(catalogue.rows);
  if (!groups.size) return say('Nothing is published here yet.');
  say(
    catalogue.missing.length
      ? `${catalogue.missing.join(', ')}: no index of these; run again, or open them by "earthloom view".`
      : '',
  );
  let place = read(chosen);
  if (!groups.has(chosen.group)) [chosen.group, place] = [groups.keys().next().value, null];
  listVectors(by('features'), catalogue.rows, map, chosen.features, share, failed);
  fill(
    by('group'),
    [...groups.keys()].map((name) => [name, name]),
    chosen.group,
  );
  fill(by('other-group'), [['', 'nothing'], ...[...groups.keys()].map((name) => [name, name])], chosen.otherGroup);
  by('opacity').value = chosen.opacity;
  by('split').value = chosen.split;
  if (!rows().some((row) => row.day === chosen.day)) chosen.day = daysOf(rows()).at(-1);
  if (place) map.setView(new ol.View({...place, maxZoom: 24}));
  else showGroup();
  wire();
  refresh();
}

const every = () => groups.get(chosen.group) || [];
const rows = () => current(every(), chosen.scene);
const split = () => (chosen.otherGroup ? chosen.split / 1000 : -1);
const share = () => write(chosen, map.getView());
const failed = (error) => say(String(error.message));
const say = (text) => {
  by('message').textContent = text;
};

/** Go to the newest date of what is chosen, and to where its scenes of that date lie. */
function showGroup() {
  chosen.day = daysOf(rows()).at(-1);
  const boxes = rowsOf(rows(), chosen.day).map((row) => row.bbox);
  const near = boxes.filter((box) => meet(box, boxes[0])).map((box) => unturned(box, boxes[0]));
  maps.fit(
    map,
    [0, 1, 2, 3].map((edge) => (edge < 2 ? Math.min : Math.max)(...near.map((box) => box[edge]))),
  );
}

/** A box on the side of the date line on which another begins, west < east. */
function unturned([west, south, east, north], [first]) {
  const turn = 360 * Math.round((first - west) / 360);
  return [west + turn, south, (east < west ? east + 360 : east) + turn, north];
}

/** Everything that follows from what is chosen and what is in view. */
function refresh() {
  const box = maps.viewBox(map);
  const inView = rows().filter((row) => meet(row.bbox, box));
  days = daysOf(inView.length ? inView : rows());
  if (!days.includes(chosen.day)) days = [...days, chosen.day].sort();
  const now = rowsOf(inView, chosen.day);
  const rasters = (rowsOf(rows(), chosen.day)[0] || rows()[0]).rasters;
  if (!rasters.some((one) => one.name === chosen.raster))
    chosen.raster = (rasters.find((one) => one.classes) || rasters[0]).name;
  fill(
    by('raster'),
    rasters.map((one) => [one.name, one.name]),
    chosen.raster,
  );
  showTime();
  showOther(box);
  const [left, right] = [now.slice(0, MOST_DRAWN), otherRows(box).slice(0, MOST_DRAWN)];
  draw(left, right);
  maps.outline(
    map,
    rows().filter((row) => row.day === chosen.day || !chosen.day),
    new Set(left.map((row) => row.id)),
  );
  showLegend(left, now.length, inView, right);
  listScenes();
  share();
}

function showTime() {
  const at = days.indexOf(chosen.day);
  Object.assign(by('day'), {max: days.length - 1, value: at, disabled: days.length < 2});
  by('day').setAttribute('aria-valuetext', dayLabel(rows(), chosen.day));
  by('day-label').textContent = `${dayLabel(rows(), chosen.day)} (${at + 1} of ${days.length} in view)`;
  by('before').disabled = at === 0;
  by('after').disabled = at === days.length - 1;
}

const otherRows = (box) =>
  rowsOf(
    current(groups.get(chosen.otherGroup) || []).filter((row) => meet(row.bbox, box)),
    chosen.otherDay,
  );

function showOther(box) {
  const all = current(groups.get(chosen.otherGroup) || []);
  const near = all.filter((row) => meet(row.bbox, box));
  const known = daysOf(near.length ? near : all);
  if (chosen.otherGroup && !known.includes(chosen.otherDay)) {
    chosen.otherDay = chosen.otherGroup !== chosen.group && known.includes(chosen.day) ? chosen.day : known[0];
  }
  fill(
    by('other-day'),
    known.map((day) => [day, dayLabel(all, day)]),
    chosen.otherDay,
  );
  by('other-day').disabled = !chosen.otherGroup;
  by('split').hidden = by('edge').hidden = !chosen.otherGroup;
  by('edge').style.left = `${chosen.split / 10}%`;
}

/** What is drawn of a row: the layer that is chosen, and on the right the map itself. */
const rasterOf = (row, side) =>
  row.rasters.find((one) => one.name === chosen.raster && side === 'left') ||
  row.rasters.find((one) => one.classes) ||
  row.rasters[0];

/** Draw rows on either side; what is drawn already stays. */
async function draw(left, right) {
  const turn = ++drawing;
  const wanted = [...left.map((row) => ['left', row]), ...right.map((row) => ['right', row])];
  const made = {left: [], right: []};
  try {
    for (const [side, row] of wanted) {
      const raster = rasterOf(row, side);
      const old = drawn[side].find((one) => one.row.id === row.id && one.raster.name === raster.name);
      const layer = old?.layer || (await maps.rasterLayer(row, raster, hidden));
      if (turn !== drawing) return;
      if (!old) {
        layer.getSource().on('change', () => {
          if (layer.getSource().getState() === 'error') say(`${row.id} cannot be drawn.`);
        });
        maps.clip(map, layer, side, split);
        map.addLayer(layer);
        drawn[side].push({row, raster, layer});
      }
      layer.setOpacity(side === 'left' ? chosen.opacity / 100 : 1);
      made[side].push({row, raster, layer});
    }
  } catch (error) {
    failed(error);
  }
  const kept = new Set([...made.left, ...made.right].map((one) => one.layer));
  const gone = [...drawn.left, ...drawn.right].map((one) => one.layer).filter((layer) => !kept.has(layer));
  drawn = made;
  const remove = () => gone.forEach((layer) => map.removeLayer(layer)); // only when the new date is there: no blinking
  if (kept.size && gone.length) map.once('rendercomplete', remove);
  else remove();
  map.once('rendercomplete', () => {
    if (turn === drawing) document.body.dataset.drawn = turn;
  }); // for tests
  map.render();
}

function showLegend(shown, count, inView, others) {
  const raster = shown[0]?.rasters.find((one) => one.name === chosen.raster);
  const chart = () => by('chart').replaceChildren(areasOverTime(inView, raster, hidden) || '');
  const toggled = () => {
    for (const one of [...drawn.left, ...drawn.right])
      if (one.raster.classes) maps.restyle(one.layer, one.raster, hidden);
    chart();
  };
  by('legend').replaceChildren(...legend(shown, raster, hidden, toggled));
  chart();
  by('other-legend').replaceChildren(...legend(others, others[0] && rasterOf(others[0], 'right'), hidden, null));
  by('legend-note').textContent = !count
    ? 'No scene of this date is in view.'
    : count > shown.length
      ? `${shown.length} of ${count} scenes in view are drawn: zoom in for the others.`
      : shown.length > 1
        ? `${shown.length} scenes together; ground that several show counts each time.`
        : shown[0].areas
          ? `Areas of the whole map ${shown[0].scene || shown[0].id}.`
          : shown[0].scene || shown[0].id;
}

function listScenes() {
  const words = by('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = every().filter((row) => words.every((word) => `${row.id} ${row.day}`.toLowerCase().includes(word)));
  const shown = new Set(rows());
  const twice = new Set(found.map((row) => row.scene).filter((name, at, all) => all.indexOf(name) !== at));
  by('scenes').replaceChildren(
    ...found.slice(0, MOST_LISTED).map((row) =>
      element(
        'li',
        {},
        element(
          'button',
          {
            type: 'button',
            title: row.id,
            ariaCurrent: String(row.day === chosen.day && shown.has(row) && (!chosen.scene || row.id === chosen.scene)),
            onclick: () => {
              Object.assign(chosen, {day: row.day, scene: row.id});
              maps.fit(map, row.bbox);
              refresh();
            },
          },
          element('span', {textContent: twice.has(row.scene) || !row.scene ? row.id : row.scene}),
          element('span', {
            className: 'size',
            textContent: `${row.superseded ? 'older result, ' : ''}${dayLabel([row], row.day)}`,
          }),
        ),
      ),
    ),
  );
  by('scenes-note').textContent =
    found.length > MOST_LISTED
      ? `${MOST_LISTED} of ${found.length}; find narrows them down.`
      : `${found.length} of ${every().length}`;
}

function moved() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (catalogue && groups.size) refresh();
  }, 150);
}

function clicked(lonLat) {
  const turn = ++asked;
  const rowsDrawn = drawn.left.map((one) => one.row);
  const others = rows().filter(
    (row) =>
      row.day === chosen.day &&
      meet(row.bbox, [lonLat[0] - 1e-9, lonLat[1] - 1e-9, lonLat[0] + 1e-9, lonLat[1] + 1e-9]),
  );
  answer(by('answer'), lonLat, {
    drawn: rowsDrawn.length ? rowsDrawn : others,
    group: chosen.group,
    all: [...current(catalogue.rows.filter((row) => row.group !== chosen.group)), ...rows()],
    vectors: maps.featuresAt(map, lonLat),
    stale: () => turn !== asked || by('answer').hidden,
    raster: drawn.left[0]?.raster || rows()[0].rasters[0],
  }).catch(failed);
}

function step(by) {
  const at = days.indexOf(chosen.day) + by;
  if (days[at] !== undefined) {
    Object.assign(chosen, {day: days[at], scene: ''});
    refresh();
  }
  return days[at] !== undefined;
}

function play() {
  clearInterval(playing);
  playing = playing
    ? null
    : setInterval(() => {
        if (!step(1)) {
          chosen.day = days[0];
          refresh();
        }
      }, PLAY_MS);
  by('play').textContent = playing ? '⏸' : '▶';
}

function theme(name) {
  document.documentElement.dataset.theme = name;
}

function wire() {
  const on = (id, event, act) => by(id).addEventListener(event, () => act(by(id).value));
  on('group', 'change', (value) => {
    Object.assign(chosen, {group: value, scene: '', raster: ''});
    hidden.clear();
    showGroup();
    refresh();
  });
  on('raster', 'change', (value) => {
    chosen.raster = value;
    refresh();
  });
  on('opacity', 'input', (value) => {
    chosen.opacity = Number(value);
    drawn.left.forEach((one) => one.layer.setOpacity(value / 100));
    share();
  });
  on('other-group', 'change', (value) => {
    Object.assign(chosen, {otherGroup: value, otherDay: ''});
    refresh();
  });
  on('other-day', 'change', (value) => {
    chosen.otherDay = value;
    refresh();
  });
  on('split', 'input', (value) => {
    chosen.split = Number(value);
    by('edge').style.left = `${value / 10}%`;
    map.render();
    share();
  });
  on('day', 'input', (value) => {
    Object.assign(chosen, {day: days[value], scene: ''});
    refresh();
  });
  on('before', 'click', () => step(-1));
  on('after', 'click', () => step(1));
  on('play', 'click', play);
  on('theme', 'click', () => {
    theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
    localStorage.setItem('theme', document.documentElement.dataset.theme);
  });
  on('search', 'input', listScenes);
  addEventListener('hashchange', () => location.reload());
  const keyed = {
    '[': () => step(-1),
    ']': () => step(1),
    ' ': play,
    d: () => by('theme').click(),
    '/': () => by('search').focus(),
  };
  addEventListener('keydown', (event) => {
    if (event.key === 'Escape') by('answer').hidden = true;
    if (event.target.matches('input, select, button') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' && event.target === by('map')) clicked(ol.proj.toLonLat(map.getView().getCenter()));
    if (keyed[event.key]) {
      event.preventDefault();
      keyed[event.key]();
    }
  });
}

begin().catch((error) => say(`The page cannot show this: ${error.message}`));
