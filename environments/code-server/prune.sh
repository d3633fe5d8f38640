#!/bin/sh
# Leaves of code-server what runs, and what for this machine.
set -eu
cd /opt/code-server

install -D /opt/node/bin/node bin/node
strip --strip-unneeded bin/node
cp /opt/node/share/doc/*/LICENSE bin/LICENSE 2>/dev/null || true

vscode=node_modules/code-server/lib/vscode
# An assistant and a login that are of use with one company's servers alone.
rm -rf "${vscode}/extensions/copilot" "${vscode}/extensions/microsoft-authentication"
# Diagrams in notebooks and previews take 47 MB, as every part brings its own icons.
rm -rf "${vscode}/extensions/mermaid-markdown-features"
# What native modules were built from, and what is there for other machines.
own=$(bin/node --print 'process.platform + "-" + process.arch')
for folder in "${vscode}/node_modules/@vscode/ripgrep-universal/bin" "${vscode}"/node_modules/*/prebuilds \
  "${vscode}"/node_modules/@*/*/prebuilds node_modules/*/prebuilds; do
  [ -d "${folder}" ] || continue
  find "${folder}" -mindepth 1 -maxdepth 1 ! -name "${own}" -exec rm -rf {} +
done
find . -depth -type d \( -path '*/build/Release/obj.target' -o -path '*/build/Release/.deps' -o -path '*/node-pty/deps' \
  -o -path '*/node-pty/third_party' -o -path '*/spdlog/deps' -o -name node-addon-api -o -name '*linux-*-musl' \) \
  -exec rm -rf {} +
find . -type f \( -name '*.map' -o -name '*.ts' -o -name '*.md' -o -name '*.tsbuildinfo' -o -name '*.o' -o -name '*.a' \) \
  ! -path '*/typescript/lib/*' ! -path '*/dap/*' -delete
find . -type f -name '*win32-*.node' -delete
find . -type f -name '*.node' -exec strip --strip-unneeded {} +
rm -f node_modules/code-server/npm-shrinkwrap.json
# For each user of the containers, whatever a package says.
chmod -R u=rwX,go=rX .
