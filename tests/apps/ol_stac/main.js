// Draws one asset of a STAC item as STAC Browser does, by ol-stac: #item=URL&asset=NAME&at=lon,lat,zoom

import Map from 'ol/Map.js';
import View from 'ol/View.js';
import {fromLonLat} from 'ol/proj.js';
import STAC from 'ol-stac/layer/STAC.js';

const said = new URLSearchParams(location.hash.slice(1));
const [lon, lat, zoom] = said.get('at').split(',').map(Number);
const layer = new STAC({
  url: new URL(said.get('item'), location.href).href,
  assets: [said.get('asset')],
  displayFootprint: false,
});
const map = new Map({target: 'map', layers: [layer], controls: [], view: new View({center: fromLonLat([lon, lat]), zoom})});
layer.on('error', (event) => console.error(event.error || event));
layer.on('layersready', () => map.once('rendercomplete', () => (document.body.dataset.drawn = 1)));
