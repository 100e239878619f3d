#!/bin/sh
# Starts this pod's node. It has another address after each start, and may find all others at other ones, too. So the addresses that
# it remembers are looked up anew by the pods' names: of two nodes, the one that starts later finds the other.
set -eu

if [ -s /data/nodes.conf ]; then
    for host in redis-0.redis redis-1.redis redis-2.redis redis-3.redis redis-4.redis redis-5.redis; do
        address=$(getent hosts "$host" | head -n 1 | cut -d ' ' -f 1)
        [ -z "$address" ] || sed -i "s/ [^ ]*\(:[0-9]*@[0-9]*,$host[, ]\)/ $address\1/" /data/nodes.conf
    done
fi

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
exec redis-server /data/redis.conf
