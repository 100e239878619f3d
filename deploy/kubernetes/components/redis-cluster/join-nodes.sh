#!/bin/sh
# Makes the pods one cluster: three primaries, each with a replica. It ends at once where they are one already.
set -eu
export REDISCLI_AUTH="$REDIS_PASSWORD"
hosts="redis-0.redis redis-1.redis redis-2.redis redis-3.redis redis-4.redis redis-5.redis"

for host in $hosts; do
    until [ "$(timeout 2 redis-cli -h "$host" ping 2>/dev/null)" = PONG ]; do sleep 1; done
done
assigned=$(redis-cli -h redis-0.redis cluster info | tr -d '\r' | sed -n 's/^cluster_slots_assigned://p')
if [ "$assigned" = 0 ]; then
    # Nodes are introduced to one another by their addresses.
    addresses=$(for host in $hosts; do getent hosts "$host" | head -n 1 | cut -d ' ' -f 1 | sed 's/$/:6379/'; done)
    redis-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes
fi
until redis-cli -h redis-0.redis cluster info | grep -q cluster_state:ok; do sleep 1; done
