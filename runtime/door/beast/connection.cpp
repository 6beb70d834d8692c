#include "runtime/door/beast/connection.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <fmt/format.h>

#include "runtime/base/clock.hpp"
#include "runtime/base/random.hpp"
#include "runtime/door/beast/listener.hpp"

namespace troupe::door {

namespace http = boost::beast::http;
using boost::system::error_code;
using protocols::http_session;

namespace {

constexpr std::size_t request_id_bytes_max = 128;

/// A client's own id is written into logs and headers, so only letters, digits and a few signs are allowed.
bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= request_id_bytes_max && std::ranges::all_of(text, [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           std::string_view{"-_.:/+="}.find(letter) != std::string_view::npos;
  });
}

std::string draw_request_id() {
  std::array<std::byte, 12> drawn{};
  base::fill_random(drawn);
  std::string text = "req-";
  for (const auto each : drawn)
    fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned>(each));
  return text;
}

/// "00-" 32 hex digits "-" 16 hex digits "-" 2 hex digits, neither number zero.
bool is_traceparent(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  if (text.size() != 55 || !text.starts_with("00-") || text[35] != '-' || text[52] != '-')
    return false;
  for (std::size_t i = 3; i < text.size(); ++i)
    if (i != 35 && i != 52 && digits.find(text[i]) == std::string_view::npos)
      return false;
  return text.substr(3, 32).find_first_not_of('0') != std::string_view::npos &&
         text.substr(36, 16).find_first_not_of('0') != std::string_view::npos;
}

std::string_view view(boost::beast::string_view text) noexcept {
  return {text.data(), text.size()};
}

/// The reply that a handler keeps. It may outlive its request and its connection.
class answering final : public reply {
public:
  answering(std::weak_ptr<connection> at, std::uint64_t request) : at_(std::move(at)), request_(request) {}
  void answer(response what) override {
    if (const auto there = at_.lock())
      there->answer(request_, std::move(what));
  }
  void begin_stream(std::string_view content_type) override {
    if (const auto there = at_.lock())
      there->begin_stream(request_, content_type);
  }
  void write(std::string_view piece) override {
    if (const auto there = at_.lock())
      there->write(request_, piece);
  }
  void end_stream(bool keeps) override {
    if (const auto there = at_.lock())
      there->end_stream(request_, keeps);
  }
  void on_gone(std::function<void()> call) override {
    if (const auto there = at_.lock())
      there->on_gone(request_, std::move(call));
  }
  bool is_gone() const noexcept override {
    const auto there = at_.lock();
    return !there || !there->is_current(request_);
  }

private:
  std::weak_ptr<connection> at_;
  std::uint64_t request_;
};

http_session::options bounds_of(const options& wanted) {
  http_session::options bounds;
  bounds.body_bytes_max = wanted.body_bytes_max;
  return bounds;
}

} // namespace

connection::connection(listener& owner, std::uint64_t id, boost::asio::ip::tcp::socket socket,
                       boost::asio::ssl::context* tls)
    : owner_(owner), id_(id), stream_(std::move(socket), tls), session_(bounds_of(owner.settings()), base::now()) {}

void connection::start() {
  if (!stream_.is_secure())
    return read();
  session_.on_begun(base::now()); // a TLS handshake has the time of a header
  stream_.async_handshake([self = shared_from_this()](error_code problem) {
    if (problem)
      return self->close();
    self->read();
  });
}

void connection::tick(protocols::time_point now) {
  perform(session_.on_tick(now));
}

void connection::cut() {
  perform(session_.on_peer_closed(base::now()));
}

// ---- input ----------------------------------------------------------------------------------------------------------

void connection::read() {
  if (reading_ || !session_.is_open())
    return;
  const bool inside = parser_ && header_told_ && session_.reads_request();
  if (!inside && in_.size() >= header_bytes_max)
    return; // the next requests wait; a peer that leaves is noticed when the answer is sent
  reading_ = true;
  const auto read_by = [self = shared_from_this()](bool apart) {
    return [self, apart](error_code problem, std::size_t bytes) { self->on_read(problem, bytes, apart); };
  };
  if (inside)
    stream_.async_read_some(in_.prepare(body_read_bytes), read_by(false));
  else // `in_` may change while the read is pending
    stream_.async_read_some(boost::asio::buffer(apart_), read_by(true));
}

void connection::on_read(error_code problem, std::size_t bytes, bool apart) {
  reading_ = false;
  if (!session_.is_open())
    return;
  if (problem)
    return perform(session_.on_peer_closed(base::now()));
  if (session_.drops_input()) {
    in_ = {};
  } else {
    if (apart)
      boost::asio::buffer_copy(in_.prepare(bytes), boost::asio::buffer(apart_, bytes));
    in_.commit(bytes);
  }
  advance();
  read();
}

/// Parses the bytes that have arrived.
void connection::advance() {
  if (advancing_) // a handler that answers at once has come back here
    return;
  advancing_ = true;
  while (session_.reads_request() && in_.size() > 0) {
    if (!parser_) {
      parser_.emplace();
      parser_->header_limit(header_bytes_max);
      parser_->body_limit(boost::none); // `http_session` judges it
      header_told_ = false;
      session_.on_begun(base::now());
    }
    if (!(header_told_ ? advance_body() : advance_header()))
      break;
  }
  advancing_ = false;
}

bool connection::advance_header() {
  error_code problem;
  const auto used = parser_->put(in_.data(), problem);
  in_.consume(used);
  if (problem == http::error::need_more) {
    if (in_.size() >= header_bytes_max)
      perform(session_.on_bad_request(http_session::refusal::long_header));
    return false;
  }
  if (problem) {
    perform(session_.on_bad_request(problem == http::error::header_limit ? http_session::refusal::long_header
                                                                         : http_session::refusal::malformed));
    return false;
  }
  if (!parser_->is_header_done())
    return true;
  header_told_ = true;
  const auto& head = parser_->get();
  if (head.version() > 11) {
    perform(session_.on_bad_request(http_session::refusal::malformed));
    return false;
  }
  // Where a body of another coding ends cannot be told, and what follows would be taken for a request.
  if (const auto coding = head[http::field::transfer_encoding];
      head.count(http::field::transfer_encoding) > 0 && !boost::beast::iequals(coding, "chunked")) {
    perform(session_.on_bad_request(http_session::refusal::malformed));
    return false;
  }
  http_session::head said;
  if (const auto length = parser_->content_length())
    said.body_bytes = *length;
  said.has_body = parser_->chunked() || said.body_bytes.value_or(0) > 0;
  said.keeps_alive = head.keep_alive();
  said.waits_for_word = boost::beast::iequals(head[http::field::expect], "100-continue");
  const auto target = view(head.target());
  said.is_refused = said.has_body && owner_
                                         .refusal_of(target.substr(0, target.find('?')), view(head.method_string()),
                                                     view(head[http::field::authorization]))
                                         .has_value();
  version_ = head.version();
  parser_->eager(true);
  perform(session_.on_head(said, base::now()));
  return true;
}

bool connection::advance_body() {
  error_code problem;
  const auto used = parser_->put(in_.data(), problem);
  in_.consume(used);
  if (problem == http::error::need_more)
    problem = {};
  // The words beside a chunk's length, or the fields behind the last chunk, are no body.
  const bool is_too_long = used == 0 && in_.size() >= header_bytes_max;
  if (problem || is_too_long) {
    perform(session_.on_bad_request(http_session::refusal::malformed));
    return false;
  }
  perform(session_.on_body_bytes(used));
  if (parser_->is_done())
    perform(session_.on_whole());
  return used > 0;
}

// ---- what the session decides --------------------------------------------------------------------------------------

void connection::perform(const http_session::effects& what) {
  for (const auto& effect : what) {
    if (std::holds_alternative<http_session::ask_for_body>(effect))
      send_word();
    else if (std::holds_alternative<http_session::dispatch>(effect))
      dispatch();
    else if (const auto* const no = std::get_if<http_session::refuse>(&effect))
      refuse(no->why);
    else if (std::holds_alternative<http_session::cancel>(effect)) {
      answers_ = false;
      if (const auto call = std::exchange(gone_, nullptr))
        call();
    } else if (std::holds_alternative<http_session::next_request>(effect)) {
      parser_.reset();
      if (in_.size() == 0)
        in_ = {}; // an idle connection holds nothing
      boost::asio::post(stream_.get_executor(), [self = shared_from_this()] {
        self->advance();
        self->read();
      });
    } else if (std::holds_alternative<http_session::end_sending>(effect)) {
      parser_.reset();
      error_code ignored;
      stream_.socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
      read();
    } else
      close();
  }
}

void connection::send_word() {
  queue("HTTP/1.1 100 Continue\r\n\r\n");
  send();
}

void connection::dispatch() {
  auto& message = parser_->get();
  request one;
  const auto target = view(message.target());
  const auto mark = target.find('?');
  one.method = std::string{view(message.method_string())};
  one.path = std::string{target.substr(0, mark)};
  one.query = mark == std::string_view::npos ? std::string{} : std::string{target.substr(mark + 1)};
  one.content_type = std::string{view(message[http::field::content_type])};
  const auto asked_id = view(message["X-Request-Id"]);
  one.id = is_request_id(asked_id) ? std::string{asked_id} : draw_request_id();
  if (const auto parent = view(message["traceparent"]); is_traceparent(parent))
    one.traceparent = std::string{parent};
  const std::string authorization{view(message[http::field::authorization])};
  const std::string method_asked{view(message[http::field::access_control_request_method])};
  origin_ = std::string{view(message[http::field::origin])};
  one.body = std::move(message.body());
  request_id_ = one.id;
  is_head_ = message.method() == http::verb::head;
  ++request_;
  answers_ = true;
  streams_ = false;
  parser_.reset();
  const auto self = shared_from_this(); // an answer may close it
  owner_.dispatch(std::move(one), authorization, method_asked, std::make_shared<answering>(weak_from_this(), request_));
}

void connection::refuse(http_session::refusal why) {
  request_id_ = draw_request_id();
  origin_.clear();
  const auto no = [&](unsigned status, std::string_view text, std::string_view code) {
    send_whole(error_response(status, text, code));
  };
  switch (why) {
  case http_session::refusal::slow_header:
    no(408, "the request's header was not here within 10 s", "request_timeout");
    break;
  case http_session::refusal::slow_body:
    no(408, "the request's body was not here within 10 s and a second for each MiB of it", "request_timeout");
    break;
  case http_session::refusal::long_header:
    no(431, fmt::format("the request's header is longer than {} bytes", header_bytes_max), "header_too_long");
    break;
  case http_session::refusal::long_body:
    no(413, fmt::format("the request's body is longer than {} bytes", owner_.settings().body_bytes_max),
       "body_too_long");
    break;
  case http_session::refusal::malformed:
    no(400, "this is no request in HTTP/1.1", "malformed_request");
    break;
  }
  perform(session_.on_answer_ended(false, base::now()));
  flush();
}

// ---- answers --------------------------------------------------------------------------------------------------------

void connection::add_common_headers(std::string& head) const {
  fmt::format_to(std::back_inserter(head), "X-Request-Id: {}\r\n", request_id_);
  if (!origin_.empty() && owner_.allows_origin(origin_))
    fmt::format_to(std::back_inserter(head), "Access-Control-Allow-Origin: {}\r\nVary: Origin\r\n", origin_);
}

void connection::send_whole(const response& what) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", what.status,
                                 view(http::obsolete_reason(static_cast<http::status>(what.status))));
  if (!what.content_type.empty())
    fmt::format_to(std::back_inserter(head), "Content-Type: {}\r\n", what.content_type);
  for (const auto& each : what.headers)
    fmt::format_to(std::back_inserter(head), "{}: {}\r\n", each.name, each.value);
  add_common_headers(head);
  fmt::format_to(std::back_inserter(head), "Content-Length: {}\r\n\r\n", what.body.size());
  queue(head);
  if (!is_head_)
    queue(what.body);
}

void connection::end_answer(bool keeps) {
  answers_ = false;
  gone_ = nullptr;
  perform(session_.on_answer_ended(keeps && version_ == 11, base::now()));
}

void connection::answer(std::uint64_t request, response what) {
  if (!is_current(request))
    return;
  send_whole(what);
  end_answer(true);
  flush_soon();
}

void connection::begin_stream(std::uint64_t request, std::string_view content_type) {
  if (!is_current(request) || streams_)
    return;
  streams_ = true;
  stream_head_ = fmt::format("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nCache-Control: no-cache\r\n", content_type);
  add_common_headers(stream_head_);
  stream_head_ += version_ == 11 ? "Transfer-Encoding: chunked\r\n\r\n" : "Connection: close\r\n\r\n";
}

void connection::write(std::uint64_t request, std::string_view piece) {
  if (!is_current(request) || !streams_)
    return;
  pieces_ += piece;
  flush_soon();
}

void connection::end_stream(std::uint64_t request, bool keeps) {
  if (!is_current(request) || !streams_)
    return;
  flush();
  if (is_current(request)) { // the session may have let the peer go
    if (version_ == 11)
      queue("0\r\n\r\n");
    end_answer(keeps);
    send();
  }
}

void connection::on_gone(std::uint64_t request, std::function<void()> call) {
  if (is_current(request))
    gone_ = std::move(call);
  else
    call();
}

void connection::queue(std::string_view bytes) {
  if (bytes.empty())
    return;
  out_ += bytes;
  perform(session_.on_queued(bytes.size(), base::now()));
}

/// One flush for all pieces of this turn of the thread.
void connection::flush_soon() {
  if (std::exchange(flush_due_, true))
    return;
  boost::asio::post(stream_.get_executor(), [self = shared_from_this()] { self->flush(); });
}

void connection::flush() {
  flush_due_ = false;
  if (!stream_head_.empty())
    queue(std::exchange(stream_head_, {}));
  if (!pieces_.empty()) {
    if (version_ == 11) {
      std::array<char, 20> size{};
      const auto end = std::to_chars(size.data(), size.data() + size.size(), pieces_.size(), 16).ptr;
      pieces_.insert(0, std::string{size.data(), end} + "\r\n");
      pieces_ += "\r\n";
    }
    queue(pieces_);
    pieces_.clear();
  }
  send();
}

void connection::send() {
  if (!sending_.empty() || out_.empty() || !session_.is_open())
    return;
  sending_.swap(out_);
  sent_ = 0;
  stream_.async_write_some(
      boost::asio::buffer(sending_),
      [self = shared_from_this()](error_code problem, std::size_t bytes) { self->on_sent(problem, bytes); });
}

void connection::on_sent(error_code problem, std::size_t bytes) {
  if (!session_.is_open())
    return;
  if (problem)
    return perform(session_.on_peer_closed(base::now()));
  sent_ += bytes;
  const bool whole = sent_ == sending_.size();
  if (!whole)
    stream_.async_write_some(
        boost::asio::buffer(sending_) + sent_,
        [self = shared_from_this()](error_code next, std::size_t more) { self->on_sent(next, more); });
  else
    sending_.clear();
  perform(session_.on_written(bytes, base::now()));
  if (!whole)
    return;
  send();
  if (session_.is_idle() && sending_.empty()) { // an idle connection holds nothing
    sending_.shrink_to_fit();
    out_.shrink_to_fit();
    pieces_.shrink_to_fit();
  }
}

void connection::close() {
  error_code ignored;
  stream_.socket().close(ignored);
  owner_.leave(id_);
}

} // namespace troupe::door
