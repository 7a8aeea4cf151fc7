-- KEYS[9]: the schema version of all queues here. ARGV: ours. Reply: the version in force, 1 when JSON can be decoded.
call('SET', KEYS[9], ARGV[1], 'NX')
return {call('GET', KEYS[9]), decoded('[1]') and 1 or 0}
