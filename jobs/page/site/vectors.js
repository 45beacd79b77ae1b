// The list of alerts and objects, and which of them are drawn.

import {element, swatch} from './elements.js';
import {featureLayer, STATES} from './map.js';

const MOST_LISTED = 200;
const layers = new Map(); // by name, those that were shown once

/** Fill a list with what rows have. `chosen` holds the names of those that are drawn, and `changed` is told of it. */
export function listVectors(list, rows, map, chosen, changed, failed) {
  const having = rows.flatMap((row) => (row.features || []).map((file) => ({row, file, name: `${row.path}/${file}`})));
  list.replaceChildren(...having.slice(0, MOST_LISTED).map((one) => line(one, map, chosen, changed, failed)));
  list.parentElement.hidden = !having.length;
}

function line({row, file, name}, map, chosen, changed, failed) {
  const count = element('span', {className: 'size'});
  const box = element('input', {type: 'checkbox', checked: chosen.has(name)});
  const label = element('label', {}, box, element('span', {textContent: row.scene || row.group}));
  const made = element('li', {}, label, count);
  const show = async () => {
    if (box.checked && !layers.has(name)) {
      const read = await featureLayer(row, file);
      layers.set(name, read.layer);
      map.addLayer(read.layer);
      const [some, every] = [read.count, read.whole].map((one) => one.toLocaleString('en'));
      count.textContent = some === every ? every : `first ${some} of ${every}`;
      if (read.states.length) made.after(element('li', {className: 'keys'}, ...read.states.map(key)));
    }
    layers.get(name)?.setVisible(box.checked);
  };
  box.addEventListener('change', () => {
    if (box.checked) chosen.add(name);
    else chosen.delete(name);
    show().catch(failed);
    changed();
  });
  show().catch(failed);
  return made;
}

const key = (state) => element('span', {}, swatch(STATES[state]), state);
