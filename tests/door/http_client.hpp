#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/unique_fd.hpp"

/// A client that sends whatever it is told to, right or wrong, byte by byte.
namespace troupe::tests {

struct http_answer {
  int status = 0; ///< 0: none came
  std::string head;
  std::string body;

  bool has(std::string_view words) const {
    return head.find(words) != std::string::npos || body.find(words) != std::string::npos;
  }
};

class http_client {
public:
  explicit http_client(std::uint16_t port) : socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0)
        return; // the other side has closed
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  void get(std::string_view path, std::string_view more = "") {
    send("GET " + std::string{path} + " HTTP/1.1\r\nHost: here\r\n" + std::string{more} + "\r\n");
  }
  void post(std::string_view path, std::string_view body, std::string_view more = "") {
    send("POST " + std::string{path} + " HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n" +
         "Content-Length: " + std::to_string(body.size()) + "\r\n" + std::string{more} + "\r\n" + std::string{body});
  }
  int fd() const noexcept { return socket_.get(); }

  /// The next whole answer, of a stream too.
  http_answer answer() {
    http_answer out;
    const auto end = find("\r\n\r\n");
    if (end == std::string::npos)
      return out;
    out.head = in_.substr(0, end + 4);
    in_.erase(0, end + 4);
    std::from_chars(out.head.data() + 9, out.head.data() + 12, out.status);
    if (out.status == 100)
      return out;
    constexpr std::string_view length = "Content-Length: ";
    if (const auto at = out.head.find(length); at != std::string::npos) {
      std::size_t bytes = 0;
      std::from_chars(out.head.data() + at + length.size(), out.head.data() + out.head.size(), bytes);
      while (in_.size() < bytes && read_more()) {
      }
      out.body = in_.substr(0, bytes);
      in_.erase(0, bytes);
      return out;
    }
    if (out.head.find("chunked") == std::string::npos)
      return out;
    while (true) {
      const auto line = find("\r\n");
      if (line == std::string::npos)
        return out;
      std::size_t bytes = 0;
      std::from_chars(in_.data(), in_.data() + line, bytes, 16);
      in_.erase(0, line + 2);
      while (in_.size() < bytes + 2 && read_more()) {
      }
      out.body += in_.substr(0, bytes);
      in_.erase(0, std::min(in_.size(), bytes + 2));
      if (bytes == 0)
        return out;
    }
  }

  /// Waits for these words, of any part of an answer; nothing is taken.
  bool reads(std::string_view words) { return find(words) != std::string::npos; }
  /// The other side closes, whatever it says before.
  bool is_closed() {
    while (read_more()) {
    }
    return closed_;
  }

  static constexpr std::chrono::seconds deadline{60};

private:
  std::size_t find(std::string_view words) {
    auto at = in_.find(words);
    while (at == std::string::npos && read_more())
      at = in_.find(words);
    return at;
  }
  bool read_more() {
    pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    const auto within = std::chrono::duration_cast<std::chrono::milliseconds>(deadline).count();
    if (::poll(&ready, 1, static_cast<int>(within)) <= 0)
      return false;
    char buffer[16384];
    const auto got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got <= 0) {
      closed_ = true;
      return false;
    }
    in_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }

  base::unique_fd socket_;
  std::string in_;
  bool closed_ = false;
};

} // namespace troupe::tests
