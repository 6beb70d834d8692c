#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "protocols/door/http_session.hpp"
#include "runtime/door/beast/stream.hpp"
#include "runtime/door/door.hpp"

namespace troupe::door {

class listener;

/// One connection: reads requests, sends answers, and performs what `http_session` decides. While a request is answered
/// a read is pending, so a peer that leaves is noticed; there is none once the peer has sent `header_bytes_max` of its
/// next requests. Between requests a connection holds only `idle_bytes` of buffers. Contract: K7, K9. Threads: the
/// door's.
class connection final : public std::enable_shared_from_this<connection> {
public:
  static constexpr std::size_t header_bytes_max = 16 * 1024;
  static constexpr std::size_t idle_bytes = 1024;
  static constexpr std::size_t body_read_bytes = 64 * 1024;

  connection(listener& owner, std::uint64_t id, boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls);
  void start();
  void tick(protocols::time_point now);
  /// The door ends.
  void cut();
  bool is_sending() const noexcept { return session_.is_open() && !(out_.empty() && sending_.empty()); }

  // For replies. A call for another request than the one that is answered now has no effect.
  void answer(std::uint64_t request, response what);
  void begin_stream(std::uint64_t request, std::string_view content_type);
  void write(std::uint64_t request, std::string_view piece);
  void end_stream(std::uint64_t request, bool keeps);
  void on_gone(std::uint64_t request, std::function<void()> call);
  bool is_current(std::uint64_t request) const noexcept { return request == request_ && answers_; }

private:
  using parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void read();
  void on_read(boost::system::error_code problem, std::size_t bytes, bool apart);
  void advance();
  bool advance_header();
  bool advance_body();
  void perform(const protocols::http_session::effects& what);
  void send_word();
  void dispatch();
  void refuse(protocols::http_session::refusal why);
  void queue(std::string_view bytes);
  void flush_soon();
  void flush();
  void send();
  void on_sent(boost::system::error_code problem, std::size_t bytes);
  void send_whole(const response& what);
  void add_common_headers(std::string& head) const;
  void end_answer(bool keeps);
  void close();

  listener& owner_;
  std::uint64_t id_;
  stream stream_;
  protocols::http_session session_;
  std::array<char, idle_bytes> apart_; ///< buffer of reads outside of a body
  boost::beast::flat_buffer in_;
  std::optional<parser> parser_;
  bool header_told_ = false;
  bool reading_ = false;
  bool advancing_ = false;

  std::uint64_t request_ = 0; ///< the number of the newest request
  bool answers_ = false;      ///< its handler is at work
  std::string request_id_;
  std::string origin_;
  bool is_head_ = false;
  unsigned version_ = 11;
  std::function<void()> gone_;

  // Of a stream.
  std::string stream_head_; ///< not sent yet
  std::string pieces_;      ///< since the last flush
  bool streams_ = false;
  bool flush_due_ = false;

  std::string out_;     ///< to be sent
  std::string sending_; ///< with the kernel
  std::size_t sent_ = 0;
};

} // namespace troupe::door
