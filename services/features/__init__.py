"""Features folds the stream into the online store and the lake, and answers feature reads.

Owns: the state of visitors and items, the online catalogue, the lists of demand, the lake
Consumes: interactions.v1, catalog.v1, people.v1, recommendations.v1 (group "features");
          access-keys.v1, without a group
Produces: feature-updates.v1, erased-visitors.v1, dead-letters.v1
Calls: no other service
Stores: Redis (states, catalogue, trending), Delta lake (interactions, catalog, recommendations)
"""
