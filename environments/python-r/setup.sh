#!/bin/sh
# R as a kernel of JupyterLab, for every user.
Rscript -e 'IRkernel::installspec(user = FALSE, prefix = "/usr/local")'
# From R it is the Python of the shell that is called, not one that reticulate would download.
echo 'RETICULATE_USE_MANAGED_VENV=no' >> /etc/R/Renviron.site
