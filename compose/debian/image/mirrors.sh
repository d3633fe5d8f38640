#!/bin/sh
# Makes apt use the site's mirrors: DEBIAN_MIRROR, and for security updates DEBIAN_SECURITY_MIRROR. Where only
# one is given, the other part comes from where it came before.
set -eu
main=${DEBIAN_MIRROR:-} security=${DEBIAN_SECURITY_MIRROR:-}
[ -n "${main}${security}" ] || exit 0
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "${VERSION_CODENAME}")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "${keyring}" ] || keyring=/usr/share/keyrings/debian-archive-keyring.pgp

# The first address of a kind in the present sources; security's ends with "-security" by custom.
present() {
    grep -rhoE 'https?://[^ ]+' /etc/apt --include='*.list' --include='*.sources' | grep "$@" | head -n 1
}
main=${main:-$(present -v -e '-security/*$')}
security=${security:-$(present -e '-security/*$' || true)}

stanza() {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "$2"
    [ ! -e "${keyring}" ] || printf 'Signed-By: %s\n' "${keyring}"
    echo
}
new=/tmp/dap.sources
stanza "${main}" "${suite} ${suite}-updates" > "${new}"
[ -z "${security}" ] || stanza "${security}" "${suite}-security" >> "${new}"
find /etc/apt \( -name '*.list' -o -name '*.sources' \) -delete
mv "${new}" /etc/apt/sources.list.d/debian.sources

# A mirror with TLS, perhaps with the site's own CA: the image itself may hold no CA at all yet.
case "${main} ${security}" in
*https://*)
    if [ -e /run/secrets/ca ]; then
        install -m 0644 /run/secrets/ca /etc/apt/mirror-ca.crt
        echo 'Acquire::https::CAInfo "/etc/apt/mirror-ca.crt";' > /etc/apt/apt.conf.d/90mirror-ca
    fi
    ;;
*) ;;
esac
