#include "runtime/door/beast/listener.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <pthread.h>

#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"
#include "runtime/base/log.hpp"
#include "runtime/base/regular_file.hpp"
#include "runtime/door/beast/connection.hpp"

namespace troupe::door {

using namespace protocols;
using boost::asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds tick_period{250};
constexpr std::chrono::milliseconds no_descriptor_pause{100};
constexpr std::size_t key_file_bytes_max = 1u << 20;
constexpr std::string_view bearer = "Bearer ";

bool matches(const route& row, std::string_view path) {
  const std::string_view own{row.path};
  return own.ends_with('*') ? path.starts_with(own.substr(0, own.size() - 1)) : path == own;
}

bool is_same(std::string_view one, std::string_view other) noexcept {
  return one.size() == other.size() && ::CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

} // namespace

/// Of its own it says that the process runs, however long the start takes.
listener::listener(options wanted)
    : wanted_(std::move(wanted)), acceptor_(io_), timer_(io_),
      pause_(io_), routes_{{"GET", "/live", false, [](const request&, const std::shared_ptr<reply>& to) {
                              to->answer({.status = 200,
                                          .content_type = "application/json",
                                          .body = R"({"live":true})",
                                          .headers = {}});
                            }}} {}

result<std::unique_ptr<door>> listener::open(options wanted) {
  auto made = std::make_unique<listener>(std::move(wanted));
  const auto opened =
      made->read_keys().and_then([&] { return made->read_certificate(); }).and_then([&] { return made->listen(); });
  if (!opened)
    return tl::unexpected<failure>{opened.error()};
  made->thread_ = std::thread{[self = made.get()] { self->run(); }};
  return made;
}

listener::~listener() {
  if (!thread_.joinable())
    return;
  post([this] { ends_ = true; }); // after everything that was posted before
  thread_.join();
}

result<void> listener::listen() {
  error_code problem;
  const auto address = boost::asio::ip::make_address(wanted_.address, problem);
  const auto where = fmt::format("http.listen {}:{}", wanted_.address, wanted_.port);
  if (problem)
    return fail(fault::config_invalid, where + ": no address; valid here: a numeric one, as 127.0.0.1");
  const tcp::endpoint at{address, wanted_.port};
  acceptor_.open(at.protocol(), problem);
  if (!problem)
    acceptor_.set_option(tcp::acceptor::reuse_address(true), problem);
  if (!problem)
    acceptor_.bind(at, problem);
  if (!problem)
    acceptor_.listen(boost::asio::socket_base::max_listen_connections, problem);
  if (problem)
    return fail(fault::config_invalid,
                fmt::format("{}: {}; another port stands in the spec's http.listen, null there opens none", where,
                            problem.message()));
  port_ = acceptor_.local_endpoint(problem).port();
  return {};
}

result<void> listener::read_keys() {
  if (wanted_.key_file.empty())
    return {};
  const auto text = base::read_regular(wanted_.key_file, key_file_bytes_max);
  if (!text)
    return fail(fault::config_invalid, fmt::format("http.key_file {}: {}", wanted_.key_file, text.error().what));
  std::string_view rest = *text;
  while (!rest.empty()) {
    auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' '))
      line.remove_suffix(1);
    if (!line.empty() && !line.starts_with('#'))
      keys_.emplace_back(line);
  }
  if (keys_.empty())
    return fail(fault::config_invalid, fmt::format("http.key_file {}: holds no key; one a line", wanted_.key_file));
  return {};
}

result<void> listener::read_certificate() {
  if (wanted_.certificate_file.empty())
    return {};
  tls_.emplace(boost::asio::ssl::context::tls_server);
  tls_->set_options(boost::asio::ssl::context::default_workarounds | boost::asio::ssl::context::no_tlsv1 |
                    boost::asio::ssl::context::no_tlsv1_1);
  error_code problem;
  tls_->use_certificate_chain_file(wanted_.certificate_file, problem);
  if (problem)
    return fail(fault::config_invalid,
                fmt::format("http.certificate_file {}: {}", wanted_.certificate_file, problem.message()));
  tls_->use_private_key_file(wanted_.private_key_file, boost::asio::ssl::context::pem, problem);
  if (problem)
    return fail(fault::config_invalid,
                fmt::format("http.private_key_file {}: {}", wanted_.private_key_file, problem.message()));
  return {};
}

void listener::post(std::function<void()> act) {
  boost::asio::post(io_, std::move(act));
}

void listener::serve(std::vector<route> routes) {
  post([this, rows = std::move(routes)]() mutable {
    std::ranges::move(rows, std::back_inserter(routes_));
    serves_ = true;
  });
}

/// The thread turns at least once a nap, and shows this to the watchdog (K13).
void listener::run() {
  ::pthread_setname_np(::pthread_self(), "door");
  auto sign = wanted_.watch.claim("the door's thread stands still");
  const auto work = boost::asio::make_work_guard(io_);
  accept();
  tick();
  while (!ends_) {
    sign.set(true);
    io_.run_one_for(wanted_.watch.nap);
  }
  send_the_rest();
  const auto all = connections_;
  for (const auto& [id, one] : all)
    one->cut();
  connections_.clear();
}

/// Sends the rest of answers that ended just before the door ends.
void listener::send_the_rest() {
  error_code ignored;
  acceptor_.close(ignored);
  const auto until = base::now() + limits::wire_flush_deadline;
  const auto is_sending = [](const auto& each) { return each.second->is_sending(); };
  io_.poll(); // flushes the pieces that were written
  while (base::now() < until && std::ranges::any_of(connections_, is_sending))
    io_.run_one_until(until);
}

void listener::accept() {
  acceptor_.async_accept([this](error_code problem, tcp::socket socket) {
    if (problem == boost::asio::error::operation_aborted)
      return;
    if (problem) { // out of descriptors: accepting again at once would fail for the same connection
      base::log_warning("door: {}", problem.message());
      pause_.expires_after(no_descriptor_pause);
      return pause_.async_wait([this](error_code ended) {
        if (!ended)
          accept();
      });
    }
    if (connections_.size() < wanted_.connections_max) { // else it is closed
      error_code ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      const auto id = ++last_;
      const auto one = std::make_shared<connection>(*this, id, std::move(socket), tls_ ? &*tls_ : nullptr);
      connections_.emplace(id, one);
      one->start();
    }
    accept();
  });
}

void listener::tick() {
  const auto now = base::now();
  const auto all = connections_; // a copy, since one that ends leaves the table
  for (const auto& [id, one] : all)
    one->tick(now);
  timer_.expires_after(tick_period);
  timer_.async_wait([this](error_code ended) {
    if (!ended)
      tick();
  });
}

void listener::leave(std::uint64_t which) {
  connections_.erase(which);
}

bool listener::allows_origin(std::string_view origin) const {
  return std::ranges::any_of(wanted_.origins, [&](const auto& each) { return each == "*" || each == origin; });
}

/// Compares with every key, each in constant time, so that the time tells nothing of the keys.
bool listener::has_key(std::string_view authorization) const {
  if (keys_.empty())
    return true;
  if (!authorization.starts_with(bearer))
    return false;
  bool known = false;
  for (const auto& each : keys_)
    known = is_same(each, authorization.substr(bearer.size())) || known;
  return known;
}

listener::routes_of_path listener::find(std::string_view path, std::string_view method) const {
  routes_of_path out;
  for (const auto& row : routes_)
    if (matches(row, path)) {
      out.methods += (out.methods.empty() ? "" : ", ") + row.method;
      if (row.method == method && out.here == nullptr)
        out.here = &row;
    }
  return out;
}

std::optional<response> listener::refusal_of(std::string_view path, std::string_view method,
                                             std::string_view authorization) const {
  const auto [here, methods] = find(path, method);
  if (!serves_ && here == nullptr) // of a program that has not said what it serves
    return error_response(503, "the cluster is starting", "not_ready");
  if ((here == nullptr || here->needs_key) && !has_key(authorization)) {
    auto no =
        error_response(401,
                       authorization.empty() ? "no key; send one as Authorization: Bearer KEY"
                                             : "this key is not known here; send one as Authorization: Bearer KEY",
                       "invalid_api_key");
    no.headers.push_back({"WWW-Authenticate", "Bearer"});
    return no;
  }
  if (methods.empty())
    return error_response(404, fmt::format("there is no {} here", path), "not_found");
  if (here == nullptr) {
    auto no = error_response(405, fmt::format("{} takes {}, not {}", path, methods, method), "method_not_allowed");
    no.headers.push_back({"Allow", methods});
    return no;
  }
  return std::nullopt;
}

void listener::dispatch(request what, std::string_view authorization, std::string_view method_asked,
                        const std::shared_ptr<reply>& to) {
  const auto [here, methods] = find(what.path, what.method);
  if (what.method == "OPTIONS" && !method_asked.empty() && !methods.empty())
    return to->answer({.status = 204,
                       .content_type = {},
                       .body = {},
                       .headers = {{"Access-Control-Allow-Methods", methods},
                                   {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id"},
                                   {"Access-Control-Max-Age", "600"}}});
  if (auto no = refusal_of(what.path, what.method, authorization))
    return to->answer(*std::move(no));
  here->handle(std::move(what), to);
}

} // namespace troupe::door
