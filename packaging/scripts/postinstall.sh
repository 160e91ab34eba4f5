#!/bin/sh
# After an installation and after an upgrade. The service is left as the
# administrator has it: enabled or not, and restarted only where it runs.
set -e
systemd-sysusers barnabas.conf
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart barnabas.service
fi
