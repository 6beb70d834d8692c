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

/// The door: HTTP/1.1 for a program's routes. What listens lies in a plug-in, which only a front loads; this is what a
/// program and its rank need to know of it.
namespace troupe::door {

struct header {
  std::string name;
  std::string value;
};

/// A whole request. Its path has no query.
struct request {
  std::string method;
  std::string path;
  std::string query;
  std::string content_type;
  std::string body;
  std::string id;          ///< X-Request-Id: the client's where it is well formed, otherwise drawn
  std::string traceparent; ///< W3C; empty: none, or not well formed
};

struct response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<header> headers;
};

/// Where one request is answered: whole, or as a stream whose pieces are sent as they come, all of one turn of the
/// door's thread in one write. After the client has gone it takes everything and sends nothing.
/// Threads: the door's.
class reply {
public:
  virtual ~reply() = default;
  virtual void answer(response what) = 0;
  /// The status line goes out with the first piece.
  virtual void begin_stream(std::string_view content_type) = 0;
  virtual void write(std::string_view piece) = 0;
  /// `keeps`: the connection may be used again.
  virtual void end_stream(bool keeps) = 0;
  /// Called once, if the client goes before the answer has ended.
  virtual void on_gone(std::function<void()> call) = 0;
  virtual bool is_gone() const noexcept = 0;
};

/// A row of a program: what is done for a request. The handler runs on the door's thread and must not block; it may
/// keep the reply and answer later.
struct route {
  std::string method; ///< "GET"
  std::string path;   ///< "/v1/models"; with "*" at its end: whatever begins so
  bool needs_key = true;
  std::function<void(request what, std::shared_ptr<reply> to)> handle;
};

struct options {
  std::string address; ///< numeric
  std::uint16_t port = 0;
  std::string key_file;         ///< one key a line; empty: none is asked for
  std::string certificate_file; ///< PEM, with `private_key_file`; empty: no TLS
  std::string private_key_file;
  std::vector<std::string> origins; ///< that browsers may ask from; "*": any
  std::size_t connections_max = 1024;
  std::uint64_t body_bytes_max = 64u << 20;
  base::watching watch;
};

/// A listener with a thread of its own. Threads: any, but where it says otherwise.
class door {
public:
  virtual ~door() = default; ///< ends the thread; no handler runs any more
  virtual std::uint16_t port() const noexcept = 0;
  /// Runs it on the door's thread, in the order posted.
  virtual void post(std::function<void()> act) = 0;
  /// Before the first request; once. Requests are answered from here on.
  virtual void serve(std::vector<route> routes) = 0;
};

/// Loads the plug-in and listens. Errors: config_invalid (an address that cannot be listened at, a file that cannot be
/// read).
protocols::result<std::unique_ptr<door>> open_door(options wanted);

/// The body of an error in the form that clients of this kind of service expect.
std::string error_body(std::string_view message, std::string_view type, std::string_view code,
                       std::string_view param = {});
response error_response(unsigned status, std::string_view message, std::string_view code, std::string_view param = {});
/// "invalid_request_error" and its like, by status.
std::string_view error_type(unsigned status) noexcept;

/// The text as a JSON string, with its quotes. What is not UTF-8 becomes U+FFFD.
void append_json_text(std::string& out, std::string_view text);

} // namespace troupe::door
