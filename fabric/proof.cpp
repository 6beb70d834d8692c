#include "fabric/proof.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "runtime/base/assert.hpp"

namespace troupe::fabric {

proof prove(const std::array<std::byte, 32>& job_token, std::span<const std::byte> words) {
  proof made;
  unsigned int size = 0;
  const auto* const done = ::HMAC(::EVP_sha256(), job_token.data(), static_cast<int>(job_token.size()),
                                  reinterpret_cast<const unsigned char*>(words.data()), words.size(),
                                  reinterpret_cast<unsigned char*>(made.data()), &size);
  TROUPE_ASSERT("HMAC", done != nullptr && size == made.size());
  return made;
}

void prepare_proofs() {
  ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS, nullptr);
  (void)prove({}, {}); // what it loads on its first call is what is wanted
}

bool is_same(const proof& one, const proof& other) noexcept {
  return ::CRYPTO_memcmp(one.data(), other.data(), one.size()) == 0;
}

} // namespace troupe::fabric
