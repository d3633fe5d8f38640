#!/bin/sh
# R as a kernel of JupyterLab, for every user.
Rscript -e 'IRkernel::installspec(user = FALSE, prefix = "/usr/local")'
# From R it is the Python of the shell that is called, not one that reticulate would download.
cat >> /etc/R/Rprofile.site <<'E'
# Packages of a user's own: from CRAN or the site's mirror of it, into the home.
local({
  options(repos = c(CRAN = Sys.getenv("R_CRAN_WEB", "https://cloud.r-project.org")))
  own <- Sys.getenv("R_LIBS_USER")
  if (nzchar(own) && (dir.exists(own) || dir.create(own, showWarnings = FALSE, recursive = TRUE)))
    .libPaths(c(own, .libPaths()))
})
E
echo 'RETICULATE_USE_MANAGED_VENV=no' >> /etc/R/Renviron.site
