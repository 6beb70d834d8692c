#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "runtime/door/door.hpp"

namespace troupe::door {

class connection;

/// Accepts connections on a thread of its own and makes a `connection` of each. It answers requests that match no route
/// of the program itself. Contract: K5, K6, K9. Threads: as `door` says; what connections call, the door's.
class listener final : public door {
public:
  static protocols::result<std::unique_ptr<door>> open(options wanted);
  explicit listener(options wanted);
  ~listener() override;

  std::uint16_t port() const noexcept override { return port_; }
  void post(std::function<void()> act) override;
  void serve(std::vector<route> routes) override;

  // For connections.
  const options& settings() const noexcept { return wanted_; }
  /// Why a request of such a header is not handled, whatever its body says; none: it is.
  std::optional<response> refusal_of(std::string_view path, std::string_view method,
                                     std::string_view authorization) const;
  /// Answers by the table of routes, or refuses.
  void dispatch(request what, std::string_view authorization, std::string_view method_asked,
                const std::shared_ptr<reply>& to);
  bool allows_origin(std::string_view origin) const;
  void leave(std::uint64_t which);

private:
  protocols::result<void> listen();
  protocols::result<void> read_keys();
  protocols::result<void> read_certificate();
  void run();
  void accept();
  void tick();
  void send_the_rest();
  bool has_key(std::string_view authorization) const;
  struct routes_of_path {
    const route* here = nullptr; ///< of the method
    std::string methods;         ///< of all routes of the path
  };
  routes_of_path find(std::string_view path, std::string_view method) const;

  options wanted_;
  boost::asio::io_context io_{1};
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer pause_;
  std::optional<boost::asio::ssl::context> tls_;
  std::vector<std::string> keys_;
  std::vector<route> routes_; ///< the door's own, then the program's
  bool serves_ = false;
  bool ends_ = false;
  std::uint16_t port_ = 0;
  std::uint64_t last_ = 0;
  std::map<std::uint64_t, std::shared_ptr<connection>> connections_;
  std::thread thread_;
};

} // namespace troupe::door
