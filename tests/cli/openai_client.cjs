// The client that openai publishes, unchanged, asks a job: node openai_client.cjs MODULES URL IMAGE PROMPT TEXT
// Prints "fine" and ends with 0, or says what is not.
const [modules, baseURL, image, prompt, text] = process.argv.slice(2);
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const assert = require("node:assert");
const OpenAI = createRequire(modules + "/")("openai").OpenAI;

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const picture = { type: "image_url", image_url: { url: "data:image/png;base64," + readFileSync(image, "base64") } };
const ask = {
  model: "reader",
  temperature: 0,
  max_tokens: 64,
  messages: [{ role: "user", content: [picture, { type: "text", text: prompt }] }],
};
const content = (answer) => answer.choices[0].message.content;

async function refuses(body, status, code, param) {
  try {
    await client.chat.completions.create(body);
  } catch (error) {
    assert.deepStrictEqual([error.status, error.code, error.param], [status, code, param], error.message);
    return;
  }
  assert.fail("was not refused: " + JSON.stringify(body).slice(0, 200));
}

async function main() {
  const models = await client.models.list();
  assert.strictEqual(models.data[0].id, "reader");

  const whole = await client.chat.completions.create(ask);
  assert.strictEqual(content(whole), text);
  assert.strictEqual(whole.choices[0].finish_reason, "stop");
  assert.strictEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  assert.ok(whole._request_id, "the id of the request comes back");

  const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
  let streamed = "";
  let usage = null;
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.strictEqual(streamed, text);
  assert.deepStrictEqual(usage, whole.usage);

  const stopped = await client.chat.completions.create({ ...ask, stop: [text.slice(3, 5)] });
  assert.strictEqual(content(stopped), text.slice(0, 3));
  const short = await client.chat.completions.create({ ...ask, max_tokens: 2 });
  assert.strictEqual(short.choices[0].finish_reason, "length");
  const three = await client.chat.completions.create({ ...ask, n: 3 });
  assert.deepStrictEqual(three.choices.map((each) => each.message.content), [text, text, text]);

  const turns = await client.chat.completions.create({
    ...ask,
    messages: [
      { role: "system", content: "Read." },
      ...ask.messages,
      { role: "assistant", content: text },
      { role: "user", content: [{ type: "text", text: "And this?" }, picture] },
    ],
  });
  assert.ok(turns.usage.prompt_tokens > 2 * whole.usage.prompt_tokens - 20, "every turn and picture is in the prompt");
  const onward = await client.completions.create({ model: "reader", prompt: "ab", max_tokens: 3, temperature: 0 });
  assert.ok(onward.usage.prompt_tokens <= 2, "a completion's prompt has no template");

  const left = await client.chat.completions.create({ ...ask, stream: true });
  for await (const chunk of left) {
    left.controller.abort(); // leaves in the middle
    void chunk;
  }

  await refuses({ ...ask, model: "gpt-4o" }, 404, "model_not_found", "model");
  await refuses({ ...ask, temperature: 9 }, 400, "invalid_value", "temperature");
  await refuses({ ...ask, temprature: 1 }, 400, "unknown_parameter", "temprature");
  await refuses({ ...ask, messages: [] }, 400, "invalid_value", "messages");
  await refuses({ ...ask, max_tokens: 100000 }, 400, "context_length_exceeded", "messages");
  const from = (url) => [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }];
  await refuses({ ...ask, messages: from("https://example.org/a.png") }, 400, "image_url_not_allowed",
    "messages[0].content[0]");
  await refuses({ ...ask, messages: from("data:image/png;base64,AAAA") }, 400, "bad_picture", "messages[0].content[0]");
  console.log("fine");
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
