"""What QGIS makes of files, as JSON: the legend of each layer, and the colours of a picture of it.

Run by the Python that QGIS is installed for, without a screen. Imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsLayerDefinition,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize


def _layer(layer: Any, side_px: int) -> dict[str, Any]:
    tree = [node for node in QgsProject.instance().layerTreeRoot().findLayers() if node.layerId() == layer.id()]
    return {
        "valid": layer.isValid(), "name": layer.name(), "renderer": layer.renderer().type() if layer.isValid() else "",
        "legend": [[label, color.name()] for label, color in layer.legendSymbologyItems()] if layer.isValid() else [],
        "bands": list(layer.renderer().usesBands()) if layer.isValid() else [],
        "shown": bool(tree and tree[0].isVisible()), "colors": _colors(layer, side_px) if layer.isValid() else [],
    }  # fmt: skip


def _colors(layer: Any, side_px: int) -> list[str]:
    """The colours of a picture of the whole layer, row by row."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(side_px, side_px))
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    return [image.pixelColor(x, y).name() for y in range(image.height()) for x in range(image.width())]


def main(side_px: int, sources: list[str]) -> None:
    application = QgsApplication([], False)
    application.initQgis()
    found = {}
    for source in sources:
        project = QgsProject.instance()
        project.clear()
        if source.endswith(".qlr"):
            ok, why = QgsLayerDefinition.loadLayerDefinition(source, project, project.layerTreeRoot())
            layers = [node.layer() for node in project.layerTreeRoot().findLayers()] if ok else []
            found[source] = [_layer(layer, side_px) for layer in layers] or [{"valid": False, "why": why}]
        else:
            layer = QgsRasterLayer(source, "layer", "gdal")
            project.addMapLayer(layer)
            found[source] = [_layer(layer, side_px)]
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # QGIS 3.22 may crash while it puts itself away


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
