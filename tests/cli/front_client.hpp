#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fabric/lanes/connect.hpp"
#include "fabric/socket_address.hpp"
#include "protocols/serve/client_messages.hpp"
#include "protocols/wire/codec.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/unique_fd.hpp"

/// A client of a front that says whatever it is told to, right or wrong, frame by frame.
namespace troupe::tests {

inline base::unique_fd connect_to_front(const std::string& path) {
  base::unique_fd socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto address = fabric::unix_address(path);
  REQUIRE(address);
  REQUIRE(::connect(socket.get(), address->get(), address->size) == 0);
  return socket;
}

class front_client {
public:
  explicit front_client(const std::string& socket)
      : lane_(fabric::make_stream_lane(connect_to_front(socket).release(), protocols::client_rank, born, front, born,
                                       {})) {}

  template <class Message>
  void say(const Message& message) {
    std::vector<std::byte> payload;
    protocols::encode_payload(message, payload);
    send({.type = Message::type}, payload);
  }
  /// With a byte more than is known of the message, as from a build to come.
  template <class Message>
  void say_more(const Message& message, std::uint32_t flags) {
    std::vector<std::byte> payload;
    protocols::encode_payload(message, payload);
    payload.push_back(std::byte{1});
    send({.type = Message::type, .flags = flags}, payload);
  }

  /// Announces a question with pictures of these sizes, of which nothing follows by itself.
  void announce(std::uint64_t tag, std::vector<std::uint64_t> picture_bytes, std::uint32_t max_tokens = 16) {
    protocols::ask question;
    question.tag = tag;
    question.prompt = "Read the text.";
    question.picture_names.assign(picture_bytes.size(), "a.png");
    question.picture_bytes = std::move(picture_bytes);
    question.max_tokens = max_tokens;
    say(question);
  }

  /// The next frame of that type; others before it are dropped. Nothing: the deadline passed, or the front has hung up.
  template <class Message>
  std::optional<Message> hear() {
    const auto until = base::now() + deadline;
    while (const auto frame = fabric::receive(*lane_, until)) {
      Message message;
      const bool wanted =
          frame->header.type == Message::type && protocols::decode_payload(frame->payload, message).has_value();
      lane_->pop();
      if (wanted)
        return message;
    }
    return std::nullopt;
  }

  static constexpr std::chrono::seconds deadline{60}; ///< far above what any machine needs

private:
  void send(const protocols::frame_header& header, const std::vector<std::byte>& payload) {
    REQUIRE(fabric::send(*lane_, header, payload, base::now() + deadline));
    REQUIRE(lane_->flush());
  }

  static constexpr protocols::rank_id front{0};
  static constexpr protocols::generation born{1};

  std::unique_ptr<fabric::lane> lane_;
};

} // namespace troupe::tests
