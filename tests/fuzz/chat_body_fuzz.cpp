#include "actors/serve/door/chat_body.hpp"
#include "inputs.hpp"
#include "target.hpp"

using namespace troupe;

/// The body of a request to the door.
TROUPE_FUZZ_TARGET(chat_body) {
  const auto body = fuzz::text_of(input);
  for (const auto form : {actors::body_form::chat, actors::body_form::completion}) {
    const auto read = actors::read_body(form, body, {.picture_bytes_max = 1000, .vocabulary = 100});
    if (!read) {
      TROUPE_ASSERT("K10", !read.error().code.empty() && !read.error().message.empty());
      continue;
    }
    TROUPE_ASSERT("K9", read->files.size() == read->asked.picture_bytes.size());
    TROUPE_ASSERT("K9", read->files.size() == protocols::pictures_in(read->asked.said));
    TROUPE_ASSERT("K10", read->n >= 1 && read->n <= actors::answers_max);
    for (const auto& each : read->asked.sampling.rules.bias)
      TROUPE_ASSERT("K8", each.id >= 0 && each.id < 100);
  }
}
