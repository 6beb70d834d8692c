#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <ctime>
#include <map>

#include "fabric/lanes/connect.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/embed/client.hpp"
#include "tests/cli/command.hpp"

using namespace troupe;
using namespace troupe::protocols;
using namespace troupe::tests;

namespace {

constexpr rank_id front_rank{0};

/// The other end of the connection, as a rank of role front speaks it.
class fake_front {
public:
  explicit fake_front(const scratch_folder& here) : path_(here / "front.sock") {
    listening_ = base::unique_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listening_.get(), 8) == 0);
  }

  embed::client connected(fabric::lane_options options = {}) {
    auto client = embed::client::connect(path_, front_rank.value, base::now() + 60s);
    REQUIRE(client);
    const int fd = ::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    lane_ = fabric::make_stream_lane(fd, front_rank, generation{1}, client_rank, generation{1}, options);
    return std::move(*client);
  }

  template <class Message>
  void say(const Message& message) {
    std::vector<std::byte> payload;
    encode_payload(message, payload);
    frame_header header;
    header.type = Message::type;
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    header.source = front_rank;
    header.source_generation = generation{1};
    header.destination = client_rank;
    header.destination_generation = generation{1};
    REQUIRE(fabric::send(*lane_, header, payload, base::now() + 60s));
    REQUIRE(lane_->flush());
  }

  /// The next frame that is here already.
  template <class Message>
  std::optional<Message> heard() {
    const auto frame = lane_->peek();
    REQUIRE(frame);
    if (!*frame)
      return std::nullopt;
    REQUIRE((*frame)->header.type == Message::type);
    Message message;
    REQUIRE(decode_payload((*frame)->payload, message));
    lane_->pop();
    return message;
  }

  void leave() { lane_.reset(); }
  fabric::lane& lane() { return *lane_; }
  const std::string& path() const { return path_; }

private:
  std::string path_;
  base::unique_fd listening_;
  std::unique_ptr<fabric::lane> lane_;
};

embed::question question_with(std::size_t picture_bytes) {
  embed::question what{.prompt = "Read.", .pictures = {}, .max_tokens = 9, .sampling = {}};
  auto& picture = what.pictures.emplace_back();
  picture.name = "a.png";
  for (std::size_t place = 0; place < picture_bytes; ++place)
    picture.bytes.push_back(static_cast<std::byte>(place * 31 >> 3));
  return what;
}

} // namespace

TEST_CASE("A client's question arrives whole, its answers come back told apart by tag") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();

  const auto first = client.ask({.prompt = "one", .pictures = {}, .max_tokens = 3, .sampling = {0.5F, 0.9F, 7}});
  const auto second = client.ask(question_with(10));
  REQUIRE(first);
  REQUIRE(second);
  const auto asked = front.heard<ask>();
  REQUIRE(asked);
  CHECK(asked->tag == *first);
  CHECK(asked->prompt == "one");
  CHECK(asked->max_tokens == 3);
  CHECK(asked->sampling == sampling_options{0.5F, 0.9F, 7});
  const auto with_picture = front.heard<ask>();
  REQUIRE(with_picture);
  CHECK(with_picture->picture_names == std::vector<std::string>{"a.png"});
  CHECK(with_picture->picture_bytes == std::vector<std::uint64_t>{10});
  REQUIRE(front.heard<picture_chunk>());

  front.say(answer{.tag = *second, .index = 0, .id = 5, .text = "b"});
  front.say(answer{.tag = *first, .index = 0, .id = 4, .text = "a"});
  front.say(refused{.tag = *first, .code = 0, .message = "full"});
  const auto deadline = base::now() + 60s;
  CHECK(std::get<embed::token>(*client.next_event(deadline)).tag == *second);
  CHECK(std::get<embed::token>(*client.next_event(deadline)).text == "a");
  CHECK(std::get<embed::refused>(*client.next_event(deadline)).why.what == "full");
}

TEST_CASE("A front that takes no pictures for a while does not keep the client from reading answers") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  const auto what = question_with(24u << 20); // beyond what lane and socket hold
  const auto tag = client.ask(what);
  REQUIRE(tag);

  // given: the front has read nothing, and the lane is full
  CHECK(client.next_event(base::now() + 50ms).error().why == embed::reason::timeout);
  // when: it speaks before it reads
  front.say(answer{.tag = 77, .index = 0, .id = 1, .text = "x"});
  const auto said = client.next_event(base::now() + 60s);
  REQUIRE(said);
  CHECK(std::get<embed::token>(*said).tag == 77);

  // then: once it reads, the picture arrives whole and in order
  std::vector<std::byte> got;
  std::thread reader{[&] {
    const auto deadline = base::now() + 60s;
    while (got.size() < what.pictures[0].bytes.size()) {
      const auto frame = fabric::receive(front.lane(), deadline);
      if (!frame)
        return;
      picture_chunk chunk;
      if (frame->header.type == serve_type::picture_chunk && decode_payload(frame->payload, chunk)) {
        got.insert(got.end(), chunk.bytes.begin(), chunk.bytes.end());
        if (chunk.bytes.size() > limits::picture_chunk_bytes)
          return;
      }
      front.lane().pop();
    }
    front.say(finished{.tag = *tag,
                       .reason = finish_reason::stop,
                       .message = {},
                       .time_to_first_token_ns = 1,
                       .total_ns = 2,
                       .phases = {},
                       .text = "\uFFFD"});
  }};
  const auto end = client.next_event(base::now() + 60s);
  reader.join();
  REQUIRE(end);
  CHECK(std::get<embed::finished>(*end).tag == *tag);
  CHECK(std::get<embed::finished>(*end).text == "\uFFFD");
  CHECK(got == what.pictures[0].bytes);
}

TEST_CASE("C13: a front that takes nothing keeps the client no longer than its deadline, asleep") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  REQUIRE(client.ask(question_with(600'000))); // more than the socket holds, less than the lane does

  const auto cpu = std::clock();
  const auto began = base::now();
  const auto said = client.next_event(began + 300ms);
  const auto took = base::now() - began;
  const auto busy = std::chrono::milliseconds{(std::clock() - cpu) * 1000 / CLOCKS_PER_SEC};
  REQUIRE_FALSE(said);
  CHECK(said.error().why == embed::reason::timeout);
  CHECK(took >= 300ms);
  CHECK(busy < 150ms);
}

TEST_CASE("The rest of a refused question's pictures is not sent") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  const auto refused_tag = client.ask(question_with(24u << 20));
  const auto next_tag = client.ask({.prompt = "next", .pictures = {}, .max_tokens = 1, .sampling = {}});
  REQUIRE(refused_tag);
  REQUIRE(next_tag);
  front.say(refused{.tag = *refused_tag, .code = 31, .message = "no"});
  REQUIRE(client.next_event(base::now() + 60s));

  std::size_t chunks = 0;
  std::thread reader{[&] {
    const auto deadline = base::now() + 60s;
    while (const auto frame = fabric::receive(front.lane(), deadline)) {
      ask said;
      const bool last =
          frame->header.type == serve_type::ask && decode_payload(frame->payload, said) && said.tag == *next_tag;
      chunks += frame->header.type == serve_type::picture_chunk ? 1 : 0;
      front.lane().pop();
      if (last)
        break;
    }
    front.say(answer{.tag = *next_tag, .index = 0, .id = 1, .text = "x"});
  }};
  const auto said = client.next_event(base::now() + 60s);
  reader.join();
  REQUIRE(said);
  CHECK(std::get<embed::token>(*said).tag == *next_tag);
  CHECK(chunks < 2 * (24u << 20) / limits::picture_chunk_bytes); // of both
}

TEST_CASE(
    "C15, K9: a question that is given up is told to the front by its tag, and the rest of its pictures is not sent") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  const auto half = client.ask(question_with(24u << 20)); // beyond what lane and socket hold
  const auto unsent = client.ask(question_with(24u << 20));
  REQUIRE(half);
  REQUIRE(unsent);
  client.cancel(*unsent);
  client.cancel(*half);

  std::size_t chunks = 0;
  std::vector<std::uint64_t> withdrawn;
  std::thread reader{[&] {
    const auto deadline = base::now() + 20s;
    while (withdrawn.size() < 2) {
      const auto frame = fabric::receive(front.lane(), deadline);
      if (!frame)
        return;
      withdraw said;
      if (frame->header.type == serve_type::withdraw && decode_payload(frame->payload, said))
        withdrawn.push_back(said.tag);
      chunks += frame->header.type == serve_type::picture_chunk ? 1 : 0;
      front.lane().pop();
    }
    front.say(answer{.tag = *half, .index = 0, .id = 1, .text = "x"});
  }};
  const auto said = client.next_event(base::now() + 20s);
  reader.join();
  REQUIRE(said);
  CHECK(withdrawn == std::vector{*half, *unsent});
  CHECK(chunks < (24u << 20) / limits::picture_chunk_bytes);
}

TEST_CASE("A full list of unsent questions refuses the next one by name") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  REQUIRE(client.ask(question_with(24u << 20)));
  embed::result<std::uint64_t> last = std::uint64_t{0};
  std::size_t taken = 1;
  while (last && taken <= 2 * embed::client::questions_waiting_max) {
    last = client.ask({.prompt = "q", .pictures = {}, .max_tokens = 1, .sampling = {}});
    taken += last ? 1 : 0;
  }
  REQUIRE_FALSE(last);
  CHECK(last.error().why == embed::reason::overloaded);
  CHECK(taken == embed::client::questions_waiting_max);
}

TEST_CASE("A question that no frame can carry is refused by name and harms nothing") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  CHECK(client
            .ask({.prompt = std::string(limits::picture_chunk_bytes + 1, 'x'),
                  .pictures = {},
                  .max_tokens = 1,
                  .sampling = {}})
            .error()
            .why == embed::reason::invalid);
  embed::question many;
  many.pictures.resize(limits::pictures_per_request_max + 1);
  CHECK(client.ask(std::move(many)).error().why == embed::reason::invalid);
  CHECK(client.ask({.prompt = "good", .pictures = {}, .max_tokens = 1, .sampling = {}}));
}

TEST_CASE("C13: a front that leaves ends the wait at once, after what it had said was delivered") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  REQUIRE(client.ask({.prompt = "q", .pictures = {}, .max_tokens = 1, .sampling = {}}));
  front.say(answer{.tag = 1, .index = 0, .id = 1, .text = "last words"});
  front.leave();

  CHECK(std::get<embed::token>(*client.next_event(base::now() + 60s)).text == "last words");
  const auto began = clock::now();
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::gone);
  CHECK(clock::now() - began < 30s);
}

TEST_CASE("interrupt ends a wait from another thread") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  std::thread other{[&] { client.interrupt(); }};
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::cancelled);
  other.join();
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::cancelled);
}

TEST_CASE("A frame that is no reply ends the connection by name") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  front.say(heartbeat{});
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::bad_reply);
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::gone);
}

TEST_CASE("What a front refuses a connection with is what its questions and its wait end with") {
  const refused full{.tag = 0, .code = static_cast<std::uint16_t>(fault::queue_full), .message = "256 clients"};
  const embed::error said{embed::reason::overloaded, "256 clients",
                          to_string(failure{fault::queue_full, "256 clients"})};
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  front.say(full);
  front.leave();
  const auto asked = client.ask({.prompt = "q", .pictures = {}, .max_tokens = 1, .sampling = {}});
  REQUIRE_FALSE(asked);
  CHECK(asked.error() == said);
  CHECK(client.next_event(base::now() + 60s).error() == said);
  CHECK(client.next_event(base::now() + 60s).error().why == embed::reason::gone);
}

TEST_CASE("A17: what the front says of a question comes as values of the library, which name what a caller can do") {
  const scratch_folder here;
  fake_front front{here};
  auto client = front.connected();
  const auto next = [&] {
    auto said = client.next_event(base::now() + 60s);
    REQUIRE(said);
    return *std::move(said);
  };
  front.say(accepted{.tag = 1, .request = request_id{7}, .prompt_tokens = 3});
  const auto taken = std::get<embed::accepted>(next());
  CHECK(taken.tag == 1);
  CHECK(taken.request == 7);
  CHECK(taken.prompt_tokens == 3);

  const std::map<finish_reason, embed::ending> endings{{finish_reason::stop, embed::ending::stop},
                                                       {finish_reason::length, embed::ending::length},
                                                       {finish_reason::failed, embed::ending::failed},
                                                       {finish_reason::cancelled, embed::ending::cancelled}};
  for (const auto& [said, meant] : endings) {
    front.say(finished{.tag = 2,
                       .reason = said,
                       .message = "why",
                       .time_to_first_token_ns = 5,
                       .total_ns = 9,
                       .phases = {{phase::prefill, 2, 4}},
                       .text = "end"});
    const auto ended = std::get<embed::finished>(next());
    CHECK(ended.tag == 2);
    CHECK(ended.how == meant);
    CHECK(ended.is_answer() == (said == finish_reason::stop || said == finish_reason::length));
    CHECK(ended.message == "why");
    CHECK(ended.to_first_token == 5ns);
    CHECK(ended.total == 9ns);
    REQUIRE(ended.timings.size() == 1);
    CHECK(ended.timings[0].part == "prefill");
    CHECK(ended.timings[0].ended - ended.timings[0].began == 2ns);
    CHECK(ended.text == "end");
  }

  const std::map<fault, embed::reason> reasons{{fault::queue_full, embed::reason::overloaded},
                                               {fault::shutting_down, embed::reason::shutting_down},
                                               {fault::bad_picture, embed::reason::invalid},
                                               {fault::context_exceeded, embed::reason::invalid},
                                               {fault::cell_gone, embed::reason::other}};
  for (const auto& [code, meant] : reasons) {
    front.say(refused{.tag = 3, .code = static_cast<std::uint16_t>(code), .message = "particulars"});
    const auto no = std::get<embed::refused>(next());
    CHECK(no.tag == 3);
    CHECK(no.why == embed::error{meant, "particulars", to_string(failure{code, "particulars"})});
  }
  front.say(refused{.tag = 3, .code = 60'000, .message = "of a later version"});
  CHECK(std::get<embed::refused>(next()).why ==
        embed::error{embed::reason::other, "of a later version", "of a later version"});
}

TEST_CASE("Nobody listening is said with the path") {
  const scratch_folder here;
  const auto client = embed::client::connect(here / "front.sock", front_rank.value, base::now() + 1s);
  REQUIRE_FALSE(client);
  CHECK(client.error().why == embed::reason::gone);
  CHECK(has(client.error().what, here / "front.sock: No such file"));
  CHECK_FALSE(embed::client::connect(std::string(200, 'x'), front_rank.value, base::now() + 1s));
}
