#pragma once

#include <memory>
#include <utility>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>

namespace troupe::door {

/// A connection in plain text or under TLS, as one type. It moves bytes and decides nothing.
class stream {
public:
  using next_layer_type = boost::asio::ip::tcp::socket;
  using executor_type = next_layer_type::executor_type;

  stream(next_layer_type socket, boost::asio::ssl::context* tls) : socket_(std::move(socket)) {
    if (tls != nullptr) {
      tls_ = std::make_unique<tls_type>(socket_, *tls);
      ::SSL_set_mode(tls_->native_handle(), SSL_MODE_RELEASE_BUFFERS);
    }
  }

  stream(const stream&) = delete; // TLS refers to the socket
  stream& operator=(const stream&) = delete;

  executor_type get_executor() noexcept { return socket_.get_executor(); }
  next_layer_type& socket() noexcept { return socket_; }
  bool is_secure() const noexcept { return tls_ != nullptr; }

  /// With TLS, before anything else.
  template <class Handler>
  void async_handshake(Handler&& handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_)
      tls_->async_read_some(buffers, std::forward<Handler>(handler));
    else
      socket_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_)
      tls_->async_write_some(buffers, std::forward<Handler>(handler));
    else
      socket_.async_write_some(buffers, std::forward<Handler>(handler));
  }

private:
  using tls_type = boost::asio::ssl::stream<next_layer_type&>;
  next_layer_type socket_;
  std::unique_ptr<tls_type> tls_;
};

} // namespace troupe::door
