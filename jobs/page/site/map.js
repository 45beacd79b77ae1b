// Draws rasters and vectors on an OpenLayers map, and reads the pixels of rasters. Knows nothing of the page around it.

import {address} from './catalogue.js';

const LONLAT = 'EPSG:4326';
const RAMP = ['#00224e', '#35456c', '#666970', '#948e77', '#c8b866', '#fee838']; // cividis, safe for colour-blind eyes
const RGB = [
  ['red', 'green', 'blue'],
  ['nir', 'red', 'green'],
  ['swir16', 'nir', 'red'],
  ['swir16', 'nir', 'green'],
];
/** Of alerts, by their state. */
export const STATES = {
  provisional: '#f0e442',
  confirmed: '#d55e00',
  settled: '#cc79a7',
  closed: '#999999',
  dropped: '#dddddd',
  merged: '#56b4e9',
};
const MOST_FEATURES = 20000;
const sources = new Map(); // by what they are of, so that a date that was shown is not fetched again
const MOST_SOURCES = 200;

let libraries = [];
const loading = new Map();

/** What the page says of the libraries: file, url and integrity of each. */
export function useLibraries(known) {
  libraries = known;
}

/** Load a library once: from beside the page, or the same bytes from the CDN. */
export function library(name) {
  if (!loading.has(name)) loading.set(name, load(libraries.find((one) => one.file.startsWith(`${name}-`))));
  return loading.get(name);
}

async function load({file, url, integrity}) {
  const beside = `page/${file}`;
  try {
    await script(beside, integrity).catch(() => script(url, integrity));
  } catch {
    throw new Error(
      `${file} is needed, and neither ${beside} nor ${url} gives the bytes that this page was made for. Whoever publishes ` +
        'these maps can put it beside the page: earthloom view OUT --write',
    );
  }
}

function script(src, integrity) {
  return new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement('script'), {src, integrity, crossOrigin: 'anonymous'});
    element.onload = resolve;
    element.onerror = () => {
      element.remove();
      reject(new Error(src));
    };
    document.head.append(element);
  });
}

/** An empty map. `moved` and `clicked` are told of longitudes and latitudes. */
export async function createMap(target, {moved, clicked}) {
  await Promise.all([library('ol'), library('geotiff')]);
  const outlines = new ol.layer.Vector({source: new ol.source.Vector(), zIndex: 5});
  const map = new ol.Map({
    target,
    layers: [outlines],
    controls: [new ol.control.Zoom(), new ol.control.ScaleLine()],
    view: new ol.View({center: [0, 0], zoom: 2, maxZoom: 24}),
  });
  map.addLayer(
    new ol.layer.Graticule({
      zIndex: 4,
      showLabels: false,
      wrapX: false,
      strokeStyle: new ol.style.Stroke({color: '#8888', width: 0.6}),
    }),
  );
  map.on('moveend', moved);
  map.on('click', (event) => clicked(ol.proj.toLonLat(event.coordinate)));
  map.set('outlines', outlines);
  return map;
}

/** What is in view: west, south, east, north in degrees, west > east across the date line. */
export function viewBox(map) {
  const [west, south, east, north] = ol.proj.transformExtent(map.getView().calculateExtent(), 'EPSG:3857', LONLAT);
  const turned = (lon) => lon - 360 * Math.floor((lon + 180) / 360);
  return east - west >= 360 ? [-180, south, 180, north] : [turned(west), south, turned(east), north];
}

/** Show a box in degrees; one that crosses the date line is shown as a whole. */
export function fit(map, [west, south, east, north]) {
  const box = [west, Math.max(south, -85), east < west ? east + 360 : east, Math.min(north, 85)];
  map.getView().fit(ol.proj.transformExtent(box, LONLAT, 'EPSG:3857'), {padding: [30, 30, 90, 30], maxZoom: 18});
}

/** Draw the boxes of rows; those of `strong` are emphasised. */
export function outline(map, rows, strong) {
  const style = (color, width) => new ol.style.Style({stroke: new ol.style.Stroke({color, width})});
  const [faint, plain] = [style('#8a8a8a', 1), style('#0072b2', 1.6)];
  map.get('outlines').getSource().clear();
  map
    .get('outlines')
    .getSource()
    .addFeatures(
      rows.map((row) => {
        const [west, south, east, north] = row.bbox;
        const box = [west, Math.max(south, -85), east < west ? east + 360 : east, Math.min(north, 85)];
        const feature = new ol.Feature(ol.geom.Polygon.fromExtent(ol.proj.transformExtent(box, LONLAT, 'EPSG:3857')));
        feature.setStyle(strong.has(row.id) ? plain : faint);
        return feature;
      }),
    );
}

/** A layer of one raster of a row. `hidden` holds class values that are not drawn. */
export async function rasterLayer(row, raster, hidden) {
  const shown = raster.classes ? raster.bands.slice(0, 1) : bandsShown(raster);
  const source = await rasterSource(row, raster, shown);
  return new ol.layer.WebGLTile({source, style: styleOf(raster, shown, hidden), className: 'rasters', zIndex: 1});
}

/** Show or hide classes of a layer that is drawn. */
export const restyle = (layer, raster, hidden) => layer.setStyle(styleOf(raster, bandsShown(raster), hidden));

async function rasterSource(row, raster, bands) {
  const url = address(row, raster.file);
  const name = `${url} ${bands.map((band) => band.name)}`;
  if (!sources.has(name)) {
    if (raster.proj4) {
      await library('proj4');
      proj4.defs(raster.crs, raster.proj4);
      ol.proj.proj4.register(proj4);
    }
    if (sources.size >= MOST_SOURCES) sources.delete(sources.keys().next().value);
    sources.set(
      name,
      new ol.source.GeoTIFF({
        sources: [{url, bands: bands.map((band) => raster.bands.indexOf(band) + 1)}],
        normalize: false,
        interpolate: false,
        projection: raster.crs,
        transition: 0,
        sourceOptions: {allowFullFile: true},
      }),
    );
  }
  return sources.get(name);
}

/** The bands of an image that make its picture: three that have colours, or one. */
export function bandsShown(raster) {
  const named = (name) => raster.bands.find((band) => band.name === name);
  const three = RGB.find((names) => names.every(named));
  return three ? three.map(named) : raster.bands.slice(0, 1);
}

function styleOf(raster, bands, hidden) {
  if (raster.classes) {
    const shown = raster.classes.filter((one) => !hidden.has(one.value)).flatMap((one) => [one.value, one.color]);
    return {color: shown.length ? ['match', ['band', 1], ...shown, [0, 0, 0, 0]] : [0, 0, 0, 0]};
  }
  const part = ({range: [low, high] = [0, 255]}, at) => [
    'clamp',
    ['/', ['-', ['band', at + 1], low], Math.max(high - low, 1e-9)],
    0,
    1,
  ];
  const alpha = bands.some((band) => band.nodata !== undefined) ? ['band', bands.length + 1] : 1;
  if (bands.length === 3) return {color: ['array', ...bands.map(part), ['case', ['==', alpha, 0], 0, 1]]};
  const ramp = RAMP.flatMap((color, at) => [at / (RAMP.length - 1), color]);
  return {color: ['case', ['==', alpha, 0], [0, 0, 0, 0], ['interpolate', ['linear'], part(bands[0], 0), ...ramp]]};
}

/** The colours of an image of one band, from low to high. */
export const ramp = () => RAMP;

/** Stored values of the pixel at a place, of all bands of a raster; null outside of it and where it has no data. */
export async function readPixel(row, raster, lonLat) {
  const source = await rasterSource(row, raster, raster.bands);
  await once(source, () => source.getState() !== 'loading');
  if (source.getState() !== 'ready') throw new Error(`${raster.file} of ${row.id} cannot be read`);
  const [grid, projection] = [source.getTileGrid(), source.getProjection()];
  const [x, y] = ol.proj.transform(lonLat, LONLAT, projection);
  const turn = projection.canWrapX() ? ol.extent.getWidth(projection.getExtent()) : 0; // a map may go on beyond 180 degrees
  const place = [x, x + turn, x - turn].map((at) => [at, y]).find((at) => ol.extent.containsCoordinate(grid.getExtent(), at));
  if (!place) return null;
  const at = grid.getTileCoordForCoordAndZ(place, grid.getMaxZoom());
  const tile = source.getTile(...at, 1, projection);
  tile.load();
  await once(tile, () => tile.getState() >= 2); // loaded, failed or empty
  const [data, [width, height]] = [tile.getData(), tile.getSize()];
  if (!data) return null;
  const [west, south, east, north] = grid.getTileCoordExtent(at);
  const col = Math.min(width - 1, Math.floor(((place[0] - west) / (east - west)) * width));
  const line = Math.min(height - 1, Math.floor(((north - place[1]) / (north - south)) * height));
  const first = (line * width + col) * source.bandCount;
  const values = Array.from(data.slice(first, first + raster.bands.length));
  return values.every((value, band) => isMissing(raster.bands[band], value)) ? null : values;
}

/** Whether a stored value of a band is no data. */
export const isMissing = (band, value) => value === band.nodata || Number.isNaN(value);

function once(target, done) {
  return new Promise((resolve) => {
    const look = () => {
      if (done()) {
        target.removeEventListener('change', look);
        resolve();
      }
    };
    target.addEventListener('change', look);
    look();
  });
}

/** A layer of the vectors of a row, how many of how many are drawn, and which states these have. */
export async function featureLayer(row, file) {
  await library('flatgeobuf');
  const reader = new ol.format.GeoJSON();
  const features = [];
  let whole = 0;
  const counted = (header) => (whole = header.featuresCount);
  const url = address(row, file);
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  for await (const feature of flatgeobuf.deserialize(answer.body, {headerMetaFn: counted})) {
    features.push(reader.readFeature(feature, {dataProjection: LONLAT, featureProjection: 'EPSG:3857'}));
    if (features.length >= MOST_FEATURES) break;
  }
  const style = (feature) => {
    const color = STATES[feature.get('state')] || '#d55e00';
    return new ol.style.Style({
      stroke: new ol.style.Stroke({color, width: 2}),
      fill: new ol.style.Fill({color: `${color}22`}),
    });
  };
  const layer = new ol.layer.Vector({
    source: new ol.source.Vector({features}),
    style,
    zIndex: 6,
    properties: {asked: true},
  });
  const states = [...new Set(features.map((feature) => feature.get('state')))].filter((state) => state in STATES);
  return {layer, count: features.length, whole: Math.max(whole, features.length), states};
}

/** What the vectors at a place say, without their shapes. */
export function featuresAt(map, lonLat) {
  const found = [];
  map.forEachFeatureAtPixel(
    map.getPixelFromCoordinate(ol.proj.fromLonLat(lonLat)),
    (feature) => {
      const {geometry, ...said} = feature.getProperties();
      found.push(said);
    },
    {layerFilter: (layer) => layer.get('asked') === true, hitTolerance: 3},
  );
  return found;
}

/** Draw a layer only on one side of the part of the map at which the compared one begins, from 0 to 1. */
export function clip(map, layer, side, split) {
  layer.on('prerender', (event) => {
    const gl = event.context;
    const [width, height] = map.getSize();
    const edge = width * split();
    const [from, to] = split() < 0 ? [0, width] : side === 'left' ? [0, edge] : [edge, width];
    const [left, bottom] = ol.render.getRenderPixel(event, [from, height]);
    const [right, top] = ol.render.getRenderPixel(event, [to, 0]);
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(
      Math.round(left),
      Math.round(bottom),
      Math.round(right) - Math.round(left),
      Math.round(top) - Math.round(bottom),
    );
  });
  layer.on('postrender', (event) => event.context.disable(event.context.SCISSOR_TEST));
}
