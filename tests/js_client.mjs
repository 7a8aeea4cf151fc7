// What a producer or dashboard does with the official JavaScript client, all at its defaults. Prints what it got.
import { Redis } from "@upstash/redis";

const redis = new Redis({ url: process.env.UPSTASH_REDIS_REST_URL, token: process.env.UPSTASH_REDIS_REST_TOKEN });
const job = { id: "b91f", type: "sdxl_image_fast", prompt: "a red bicycle, café" };
const seen = {};

const error = async (promise) => promise.then(() => null, (reason) => reason.message.split(".")[0]);

seen.set = await redis.set("lamp", "lit", { ex: 100 });
seen.get = await redis.get("lamp");
seen.nil = await redis.get("nothing");
seen.together = await Promise.all([redis.lpush("sdxl_queue", job), redis.lpush("wan_queue", "plain")]);
seen.waiting = await redis.llen("wan_queue");
seen.pop = await redis.rpop("sdxl_queue");
seen.hash = [await redis.hset("h", { x: 1, y: "two" }), await redis.hgetall("h")];
seen.script = await redis.eval("return {KEYS[1], ARGV[1], {1, false}}", ["k"], ["a"]);
const sha = await redis.scriptLoad("return 'loaded'");
seen.loaded = await redis.evalsha(sha, [], []);
seen.noscript = await error(redis.evalsha("0".repeat(40), [], []));
seen.refused = await error(redis.pipeline().hexpire("h", "x", 10).exec());
seen.pipeline = await redis.pipeline().set("n", 1).incr("n").get("n").exec();
seen.multi = await redis.multi().set("n", 5).incr("n").lrange("wan_queue", 0, -1).exec();
seen.stream = await redis.xadd("s", "1-1", { k: "v" });

seen.heard = await new Promise((resolve) => {
  const subscriber = redis.subscribe("wake:sdxl_queue");
  subscriber.on("subscribe", () => redis.publish("wake:sdxl_queue", { job: "b91f" }));
  subscriber.on("message", ({ channel, message }) => {
    resolve({ channel, message });
    subscriber.unsubscribe();
  });
});

console.log(JSON.stringify(seen));
process.exit(0);
