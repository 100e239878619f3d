#!/bin/sh
# Starts this pod's sentinel. It keeps what it knows in its file, which is made once: the first pod is the first primary.
set -eu
settings=/data/sentinel.conf

if [ ! -s "$settings" ]; then
    until getent hosts redis-0.redis >/dev/null; do sleep 1; done
    umask 077
    cat >"$settings.new" <<SETTINGS
dir /data
port 26379
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $HOSTNAME.redis
sentinel monitor slipstream redis-0.redis 6379 2
sentinel auth-pass slipstream $REDIS_PASSWORD
sentinel down-after-milliseconds slipstream 5000
sentinel failover-timeout slipstream 30000
sentinel parallel-syncs slipstream 1
SETTINGS
    mv "$settings.new" "$settings"
fi
exec redis-sentinel "$settings"
