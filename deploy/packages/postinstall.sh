#!/bin/sh
# After the files are in place, at an installation and at an upgrade.
set -e
if ! getent passwd coatcheck >/dev/null; then
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers coatcheck.conf
  else
    useradd --system --user-group --home-dir /var/lib/coatcheck --no-create-home --shell /usr/sbin/nologin coatcheck
  fi
fi
# The configuration may name secrets: the server reads it, others do not.
chgrp coatcheck /etc/coatcheck
# dpkg does not bring a configuration file back that somebody deleted.
[ ! -e /etc/coatcheck/config.toml ] || chgrp coatcheck /etc/coatcheck/config.toml
# As the unit would at the first start: "coatcheck doctor" looks at it before that.
install -d -m 700 -o coatcheck -g coatcheck /var/lib/coatcheck
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart coatcheck.service || true # a configuration with mistakes must not leave the package half installed
fi
# "configure" and no older version, or the first instance of an rpm: this is new here.
if { [ "$1" = configure ] && [ -z "$2" ]; } || [ "$1" = 1 ]; then
  echo "coatcheck: say who may log in, in /etc/coatcheck/config.toml, then: systemctl enable --now coatcheck"
fi
