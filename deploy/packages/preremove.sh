#!/bin/sh
# Before the files go. At an upgrade (deb: upgrade, rpm: 1) the server runs on until the new one is in place.
set -e
case $1 in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl disable --now coatcheck.service || true
    fi
    ;;
esac
