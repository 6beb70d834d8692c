#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/fault.hpp"
#include "protocols/time.hpp"
#include "runtime/base/progress_counter.hpp"

/// The door is the HTTP/1.1 server of a front. It answers the routes of a program. Its implementation is a plug-in that
/// only a front loads; this header is what a program and its rank use.
namespace troupe::door {

struct header {
  std::string name;
  std::string value;
};

/// A complete request. `path` is without the query.
struct request {
  std::string method;
  std::string path;
  std::string query;
  std::string content_type;
  std::string body;
  std::string id;          ///< X-Request-Id: the client's if it is well formed, otherwise a random one
  std::string traceparent; ///< W3C trace context; empty: none, or malformed
};

/// A whole answer.
struct response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<header> headers;
};

/// Answers one request: with a whole answer, or with a stream. The pieces of a stream that come in one turn of the
/// door's thread are sent in one write. Once the client has left, every call is accepted and nothing is sent. Threads:
/// the door's.
class reply {
public:
  virtual ~reply() = default;
  virtual void answer(response what) = 0;
  /// The status line goes out with the first piece.
  virtual void begin_stream(std::string_view content_type) = 0;
  virtual void write(std::string_view piece) = 0;
  /// `keeps`: the connection may take another request.
  virtual void end_stream(bool keeps) = 0;
  /// `call` runs once if the client leaves before the answer has ended.
  virtual void on_gone(std::function<void()> call) = 0;
  virtual bool is_gone() const noexcept = 0;
};

/// One route of a program. Its handler runs on the door's thread and must not block; it may keep the reply and answer
/// later.
struct route {
  std::string method; ///< "GET"
  std::string path;   ///< "/v1/models"; "/v1/models/*": every path that begins with what is before the *
  bool needs_key = true;
  std::function<void(request what, std::shared_ptr<reply> to)> handle;
};

/// Where the door listens, what it asks of clients, and its bounds.
struct options {
  std::string address; ///< a numeric IP address
  std::uint16_t port = 0;
  std::string key_file;         ///< a file with one key on each line; empty: no key is needed
  std::string certificate_file; ///< PEM, with `private_key_file`; empty: no TLS
  std::string private_key_file;
  std::vector<std::string> origins; ///< from which browsers may send requests; "*": any
  std::size_t connections_max = 1024;
  std::uint64_t body_bytes_max = 64u << 20;
  base::watching watch;
};

/// A listening server with a thread of its own. Threads: any, unless a function says otherwise.
class door {
public:
  virtual ~door() = default; ///< ends the thread; no handler runs any more
  virtual std::uint16_t port() const noexcept = 0;
  /// Runs `act` on the door's thread, in the order of the calls.
  virtual void post(std::function<void()> act) = 0;
  /// Adds the program's routes to the door's own, `GET /live`; to be called once. Until then any other request is
  /// answered with 503.
  virtual void serve(std::vector<route> routes) = 0;
};

/// Loads the plug-in and listens. Errors: config_invalid (the address cannot be bound, a file cannot be read).
protocols::result<std::unique_ptr<door>> open_door(options wanted);

/// The JSON body of an error, in the form of OpenAI's API.
std::string error_body(std::string_view message, std::string_view type, std::string_view code,
                       std::string_view param = {});
/// A whole answer with that body.
response error_response(unsigned status, std::string_view message, std::string_view code, std::string_view param = {});
/// The `type` of an error with this status: "invalid_request_error".
std::string_view error_type(unsigned status) noexcept;

/// Appends the text as a JSON string, with quotes. A byte that is not UTF-8 becomes U+FFFD.
void append_json_text(std::string& out, std::string_view text);

} // namespace troupe::door
