-- The last key: the schema version of all queues here. ARGV: ours. Reply: the version in force, 1 when JSON can be decoded.
call('SET', KEYS[#KEYS], ARGV[1], 'NX')
return {call('GET', KEYS[#KEYS]), decoded('[1]') and 1 or 0}
