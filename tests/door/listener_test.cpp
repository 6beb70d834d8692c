#include <doctest/doctest.h>

#include <openssl/ssl.h>

#include <future>
#include <memory>
#include <string>

#include "runtime/door/beast/listener.hpp"
#include "tests/cli/command.hpp"
#include "tests/door/http_client.hpp"

using namespace troupe;
using namespace troupe::door;
using troupe::tests::http_client;
using namespace std::chrono_literals;

namespace {

/// A door with a few rows.
class opened {
public:
  explicit opened(options wanted = {}) {
    wanted.address = "127.0.0.1";
    auto made = listener::open(std::move(wanted));
    REQUIRE_MESSAGE(made, (made ? "" : made.error().what));
    door_ = *std::move(made);
    const auto echo = [](const request& what, const std::shared_ptr<reply>& to) {
      to->answer({.status = 200, .content_type = "text/plain", .body = what.body + what.query, .headers = {}});
    };
    const auto stream = [](const request&, const std::shared_ptr<reply>& to) {
      to->begin_stream("text/event-stream");
      to->write("data: a\n\n");
      to->write("data: b\n\n");
      to->end_stream(true);
    };
    const auto wait = [this](const request&, const std::shared_ptr<reply>& to) {
      kept_ = to;
      to->begin_stream("text/event-stream");
      to->write("data: first\n\n");
      to->on_gone([this] { gone_.set_value(); });
    };
    const auto flood = [this](const request&, const std::shared_ptr<reply>& to) {
      to->begin_stream("text/event-stream");
      to->on_gone([this] { gone_.set_value(); });
      pour(to);
    };
    door_->serve({{"POST", "/echo", true, echo},
                  {"GET", "/stream", true, stream},
                  {"GET", "/wait", true, wait},
                  {"GET", "/flood", true, flood}});
  }
  ~opened() { door_.reset(); }

  http_client client() const { return http_client{door_->port()}; }
  std::future_status somebody_left() { return gone_.get_future().wait_for(http_client::deadline); }

private:
  void pour(const std::shared_ptr<reply>& to) {
    if (to->is_gone())
      return;
    to->write(std::string(1u << 16, 'x'));
    door_->post([this, to] { pour(to); });
  }

  std::unique_ptr<door::door> door_;
  std::shared_ptr<reply> kept_;
  std::promise<void> gone_;
};

} // namespace

TEST_CASE("K9: requests of one connection are answered in order, those that come early too") {
  const opened door;
  auto client = door.client();
  client.send("POST /echo?q HTTP/1.1\r\nContent-Length: 3\r\nX-Request-Id: mine-1\r\n\r\nabc"
              "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n");
  const auto first = client.answer();
  CHECK(first.status == 200);
  CHECK(first.body == "abcq");
  CHECK(first.has("X-Request-Id: mine-1"));
  CHECK(client.answer().body == "def");
  client.get("/stream");
  const auto stream = client.answer();
  CHECK(stream.body == "data: a\n\ndata: b\n\n");
  CHECK(stream.has("text/event-stream"));
  client.get("/live", "X-Request-Id: not good\r\n");
  const auto live = client.answer();
  CHECK(live.status == 200);
  CHECK(live.has("X-Request-Id: req-"));
}

TEST_CASE("K9: a path, a method and a key that are not known are answered by name") {
  const opened door;
  auto client = door.client();
  client.get("/nowhere");
  const auto nowhere = client.answer();
  CHECK(nowhere.status == 404);
  CHECK(nowhere.has("there is no /nowhere here"));
  client.get("/echo");
  const auto method = client.answer();
  CHECK(method.status == 405);
  CHECK(method.has("Allow: POST"));
}

TEST_CASE("K9: what stands beside a chunk's length or behind the last chunk is bounded") {
  const opened door;
  for (const std::string begun : {"1;", "0\r\nA: "}) {
    CAPTURE(begun);
    auto client = door.client();
    client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + begun + std::string(100'000, 'a'));
    const auto answer = client.answer();
    CHECK(answer.status == 400);
    CHECK(answer.has("malformed_request"));
  }
}

TEST_CASE("K9: what is no HTTP/1.1 is refused and the connection closed") {
  const opened door;
  for (const std::string bad :
       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03",
        "GET /live HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "GET /live HTTP/9.9\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\nGET /live HTTP/1.1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n1\r\na\r\n0\r\n\r\n"}) {
    CAPTURE(bad);
    auto client = door.client();
    client.send(bad);
    const auto answer = client.answer();
    CHECK(answer.status == 400);
    CHECK(answer.has("malformed_request"));
    CHECK(client.is_closed());
  }
}

TEST_CASE("K9: a header beyond 16 KiB is 431, a body beyond its bound is 413 before it is read") {
  options wanted;
  wanted.body_bytes_max = 1000;
  const opened door{wanted};
  auto header = door.client();
  header.send("GET /live HTTP/1.1\r\nA: " + std::string(20'000, 'a'));
  CHECK(header.answer().status == 431);
  CHECK(header.is_closed());

  auto body = door.client();
  body.send("POST /echo HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n");
  CHECK(body.answer().status == 413);
  CHECK(body.is_closed());

  auto fits = door.client();
  fits.send("POST /echo HTTP/1.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n");
  CHECK(fits.answer().status == 100);
  fits.send(std::string(1000, 'b'));
  CHECK(fits.answer().body.size() == 1000);

  auto chunked = door.client();
  chunked.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'c'));
  CHECK(chunked.answer().status == 413);
}

TEST_CASE("K7: a header and a body that do not come are 408") {
  const opened door;
  auto header = door.client();
  auto body = door.client();
  header.send("GET /live HTTP/1.1\r\n");
  body.send("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
  CHECK(header.answer().status == 408);
  CHECK(body.answer().status == 408);
}

TEST_CASE("K9: whoever leaves in the middle of an answer is noticed") {
  opened door;
  {
    auto client = door.client();
    client.get("/wait");
    CHECK(client.reads("data: first\n\n"));
  }
  CHECK(door.somebody_left() == std::future_status::ready);
}

TEST_CASE("K9: whoever does not read is let go") {
  opened door;
  auto client = door.client();
  client.get("/flood");
  CHECK(client.reads("HTTP/1.1 200"));
  CHECK(door.somebody_left() == std::future_status::ready);
}

TEST_CASE("K9: connections beyond the bound are closed, and others are served meanwhile") {
  options wanted;
  wanted.connections_max = 2;
  const opened door{wanted};
  auto first = door.client();
  first.get("/live");
  CHECK(first.answer().status == 200);
  auto second = door.client();
  second.get("/live");
  CHECK(second.answer().status == 200);
  auto third = door.client();
  CHECK(third.is_closed());
  first.get("/live");
  CHECK(first.answer().status == 200);
}

TEST_CASE("K5: an address that is taken is refused by name") {
  options wanted;
  wanted.address = "127.0.0.1";
  const auto first = listener::open(wanted);
  REQUIRE(first);
  wanted.port = (*first)->port();
  const auto second = listener::open(wanted);
  REQUIRE_FALSE(second);
  CHECK(second.error().what.find("Address already in use") != std::string::npos);
}

TEST_CASE("K9: a door with keys answers whoever shows one of them and nobody else") {
  const troupe::tests::scratch_folder here;
  options wanted;
  wanted.key_file = here.write("keys", "# two of them\nfirst\n\nsecond\r\n");
  const opened door{wanted};
  auto client = door.client();
  client.get("/live");
  CHECK(client.answer().status == 200);
  for (const auto* wrong :
       {"", "Authorization: Bearer fir\r\n", "Authorization: first\r\n", "Authorization: Bearer \r\n"}) {
    auto stranger = door.client(); // its body is neither awaited nor read
    stranger.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n" + std::string{wrong} + "\r\n");
    const auto answer = stranger.answer();
    CHECK(answer.status == 401);
    CHECK(answer.has("WWW-Authenticate: Bearer"));
  }
  client.post("/echo", "a", "Authorization: Bearer second\r\n");
  CHECK(client.answer().status == 200);
  client.get("/nowhere");
  CHECK(client.answer().status == 401); // what is there and what is not is told to nobody else
}

TEST_CASE("K9: a browser's page may ask from the origins that are named and from no others") {
  options wanted;
  wanted.origins = {"https://a.example"};
  const opened door{wanted};
  auto client = door.client();
  client.send("OPTIONS /echo HTTP/1.1\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n");
  const auto asked = client.answer();
  CHECK(asked.status == 204);
  CHECK(asked.has("Access-Control-Allow-Origin: https://a.example"));
  CHECK(asked.has("Access-Control-Allow-Methods: POST"));
  client.get("/live", "Origin: https://b.example\r\n");
  CHECK_FALSE(client.answer().has("Access-Control-Allow-Origin"));
}

TEST_CASE("K9: with a certificate requests come by TLS, and plain text is not answered") {
  const troupe::tests::scratch_folder here;
  troupe::tests::command made{{"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                               "-nodes", "-subj", "/CN=here", "-days", "2", "-keyout", here / "key.pem", "-out",
                               here / "cert.pem"},
                              {},
                              RLIM_INFINITY,
                              "/usr/bin/env"};
  REQUIRE(made.finish().exit_code == 0);
  options wanted;
  wanted.certificate_file = here / "cert.pem";
  wanted.private_key_file = here / "key.pem";
  const opened door{wanted};
  {
    const auto client = door.client();
    const std::unique_ptr<SSL_CTX, decltype(&::SSL_CTX_free)> context{::SSL_CTX_new(::TLS_client_method()),
                                                                      &::SSL_CTX_free};
    const std::unique_ptr<SSL, decltype(&::SSL_free)> secure{::SSL_new(context.get()), &::SSL_free};
    ::SSL_set_fd(secure.get(), client.fd());
    REQUIRE(::SSL_connect(secure.get()) == 1);
    const std::string asked = "GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n";
    REQUIRE(::SSL_write(secure.get(), asked.data(), static_cast<int>(asked.size())) > 0);
    std::string answer;
    char buffer[4096];
    for (int got = 0; (got = ::SSL_read(secure.get(), buffer, sizeof buffer)) > 0;)
      answer.append(buffer, static_cast<std::size_t>(got));
    CHECK(answer.starts_with("HTTP/1.1 200 OK"));
    CHECK(answer.find("data: b\n\n") != std::string::npos);
  }
  auto plain = door.client();
  plain.get("/live");
  CHECK(plain.answer().status == 0);
  CHECK(plain.is_closed());
  wanted.private_key_file = here / "nothing.pem";
  wanted.address = "127.0.0.1";
  CHECK_FALSE(listener::open(wanted));
}
