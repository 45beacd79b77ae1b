// What is chosen, in the address of the page, so that it can be shared.

const SHORT = {
  g: 'group',
  d: 'day',
  s: 'scene',
  l: 'raster',
  og: 'otherGroup',
  od: 'otherDay',
  o: 'opacity',
  w: 'split',
};

/** Keep what is chosen, and the view, in the address. */
export function write(chosen, view) {
  const [lon, lat] = ol.proj.transform(view.getCenter(), 'EPSG:3857', 'EPSG:4326'); // beyond 180 degrees, where maps go on
  const said = new URLSearchParams({at: [lon.toFixed(5), lat.toFixed(5), view.getZoom().toFixed(2)].join()});
  for (const [short, name] of Object.entries(SHORT)) if (chosen[name] !== '') said.set(short, chosen[name]);
  for (const name of chosen.features) said.append('f', name);
  history.replaceState(null, '', `#${said}`);
}

/** Take what is chosen from the address; the view that it names, or null. */
export function read(chosen) {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const [short, name] of Object.entries(SHORT).filter(([one]) => said.has(one))) {
    chosen[name] = typeof chosen[name] === 'number' ? Number(said.get(short)) || 0 : said.get(short);
  }
  said.getAll('f').forEach((name) => chosen.features.add(name));
  const [lon, lat, zoom] = (said.get('at') || '').split(',').map(Number);
  if (![lon, lat, zoom].every(Number.isFinite)) return null;
  return {center: ol.proj.fromLonLat([lon, lat]), zoom};
}
