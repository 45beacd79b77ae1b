"""A picture of one layer as QGIS prints it, with its legend.

Run by the Python that QGIS is installed for; imports nothing of ours.
`/usr/bin/python3 infra/qgis_picture.py FILE.tif PICTURE.png`
"""

from __future__ import annotations

import os
import sys

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsLayoutExporter,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsUnitTypes,
)

_PAGE_MM, _MAP_MM, _EDGE_MM, _DPI = (240, 155), (145, 145), 5, 100


def main(source: str, picture: str) -> None:
    application = QgsApplication([], False)
    application.initQgis()
    project, layer = QgsProject.instance(), QgsRasterLayer(source, os.path.basename(source), "gdal")  # noqa: PTH119
    project.addMapLayer(layer)
    project.setCrs(layer.crs())
    layout, mm = QgsPrintLayout(project), QgsUnitTypes.LayoutMillimeters
    layout.initializeDefaults()
    layout.pageCollection().page(0).setPageSize(QgsLayoutSize(*_PAGE_MM, mm))
    drawn = QgsLayoutItemMap(layout)
    drawn.setRect(0, 0, *_MAP_MM)  # without one it draws nothing
    drawn.attemptMove(QgsLayoutPoint(_PAGE_MM[0] - _MAP_MM[0] - _EDGE_MM, _EDGE_MM, mm))
    drawn.attemptResize(QgsLayoutSize(*_MAP_MM, mm))
    drawn.setFrameEnabled(True)
    drawn.setLayers([layer])
    drawn.setExtent(layer.extent())
    legend = QgsLayoutItemLegend(layout)
    legend.attemptMove(QgsLayoutPoint(_EDGE_MM, _EDGE_MM, mm))
    for item in (drawn, legend):
        layout.addLayoutItem(item)
    settings = QgsLayoutExporter.ImageExportSettings()
    settings.dpi = _DPI
    done = QgsLayoutExporter(layout).exportToImage(picture, settings)
    sys.stdout.flush()
    os._exit(0 if done == QgsLayoutExporter.Success else 1)  # QGIS 3.22 may crash while it puts itself away


if __name__ == "__main__":
    main(*sys.argv[1:])
