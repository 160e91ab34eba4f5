#!/bin/sh
# dpkg says "remove" or "upgrade", rpm how many versions are left. State and user stay.
set -e
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now barnabas.service barnabas.socket
  fi
  ;;
esac
