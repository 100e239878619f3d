#!/bin/sh
# Starts this pod's Redis as a replica of the primary that the sentinels name, or as that primary. The sentinels of other pods are
# asked first: they ran while this pod was unavailable. Where all pods start at once, its own one tells, which remembers the last primary.
set -eu

named_primary() {
    for host in $(echo redis-0.redis redis-1.redis redis-2.redis | sed "s/$HOSTNAME.redis//") 127.0.0.1; do
        timeout 2 redis-cli -h "$host" -p 26379 sentinel get-master-addr-by-name slipstream 2>/dev/null | head -n 1 | grep . && return
    done
    return 1
}

until primary=$(named_primary); do sleep 1; done

umask 077
cat >/data/redis.conf <<SETTINGS
dir /data
port 6379
requirepass $REDIS_PASSWORD
masterauth $REDIS_PASSWORD
appendonly yes
appendfsync everysec
maxmemory 2gb
maxmemory-policy noeviction
# A primary that lost both replicas, or is cut off from them, takes no writes that the next one would not have.
min-replicas-to-write 1
min-replicas-max-lag 10
replica-announce-ip $HOSTNAME.redis
SETTINGS
[ "$primary" = "$HOSTNAME.redis" ] || echo "replicaof $primary 6379" >>/data/redis.conf
exec redis-server /data/redis.conf
