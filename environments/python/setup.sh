#!/bin/sh
# Nobody outside hears of what is done here.
dvc config --system core.analytics false
