#!/bin/sh
# Starts this pod's node. It has another address after each start, and all others may have other ones, too, which their names lead to
# only some seconds later. So the names are looked up now and then, and a node that is not where this one knows it is met there.
set -eu

umask 077
cat >/data/redis.conf <<SETTINGS
dir /data
port 6379
requirepass $REDIS_PASSWORD
masterauth $REDIS_PASSWORD
appendonly yes
# Writers wait for the disk between writes of different nodes (docs/adr/0064): with everysec, up to a second each time.
appendfsync always
maxmemory 2gb
maxmemory-policy noeviction
# A primary without its replica, or cut off from it, takes no writes that the next one would not have.
min-replicas-to-write 1
min-replicas-max-lag 10
cluster-enabled yes
cluster-node-timeout 5000
# Serving goes on with what the other primaries hold.
cluster-require-full-coverage no
cluster-announce-ip $POD_IP
cluster-announce-hostname $HOSTNAME.redis
cluster-preferred-endpoint-type hostname
SETTINGS

meet_moved_nodes() {
    export REDISCLI_AUTH="$REDIS_PASSWORD"
    while sleep 5; do
        nodes=$(redis-cli cluster nodes 2>/dev/null) || continue
        for host in redis-0.redis redis-1.redis redis-2.redis redis-3.redis redis-4.redis redis-5.redis; do
            address=$(getent hosts "$host" | head -n 1 | cut -d ' ' -f 1)
            case "$host $nodes" in
                "$HOSTNAME.redis "* | *" $address:6379@16379,$host"*) ;;
                *",$host"*) [ -z "$address" ] || redis-cli cluster meet "$address" 6379 >/dev/null ;;
            esac
        done
    done
}
meet_moved_nodes &
exec redis-server /data/redis.conf
