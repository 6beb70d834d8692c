#include "gpu/models/text_io.hpp"
#include "gpu/models/tokenizers/tokenizer_unicode.hpp"

namespace troupe::gpu::models {

std::string incremental_decoder::push(protocols::token_id id) {
  using kind = unicode::utf8_front::kind;
  pending_ += from_->bytes_of(id);
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const unicode::utf8_front front = unicode::front_of(rest);
    if (front.is == kind::incomplete)
      break;
    unicode::append_utf8(out, front.is == kind::whole ? front.value : unicode::replacement);
    rest.remove_prefix(front.length);
  }
  pending_ = std::string{rest};
  return out;
}

std::string incremental_decoder::finish() {
  std::string out;
  if (!pending_.empty())
    unicode::append_utf8(out, unicode::replacement);
  pending_.clear();
  return out;
}

} // namespace troupe::gpu::models
