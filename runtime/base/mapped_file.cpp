#include "runtime/base/mapped_file.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "runtime/base/assert.hpp"

namespace troupe::base {

namespace {

/// One mapping, for a signal handler that may look at any time: entries are reused and never freed.
struct entry {
  std::atomic<std::uintptr_t> begin = 0; ///< 0: free
  std::atomic<std::uintptr_t> end = 0;
  entry* next = nullptr;
};

constinit std::atomic<entry*> entries = nullptr;
constinit std::mutex changing;
constinit std::uintptr_t page_bytes = 0;
struct sigaction before {};

bool is_mapped(std::uintptr_t address) noexcept {
  for (const auto* each = entries.load(std::memory_order_acquire); each != nullptr; each = each->next)
    if (address >= each->begin.load(std::memory_order_acquire) && address < each->end.load(std::memory_order_acquire))
      return true;
  return false;
}

/// Only what may be called in a signal handler.
void on_bus_error(int number, siginfo_t* info, void* context) {
  const int kept = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (is_mapped(address)) {
    void* const page = reinterpret_cast<void*>(address / page_bytes * page_bytes);
    constexpr int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (::mmap(page, page_bytes, PROT_READ | PROT_WRITE, how, -1, 0) != MAP_FAILED) {
      errno = kept;
      return;
    }
  }
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
    before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    before.sa_handler(number);
  else
    ::signal(number, SIG_DFL); // the access is made again, and ends the process as it would have
}

void take_bus_errors() {
  page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction taken {};
  taken.sa_sigaction = on_bus_error;
  taken.sa_flags = SA_SIGINFO;
  sigemptyset(&taken.sa_mask);
  TROUPE_ASSERT("bus errors", ::sigaction(SIGBUS, &taken, &before) == 0);
}

/// False: no memory for it.
bool enter(std::uintptr_t begin, std::size_t bytes) {
  const std::lock_guard lock{changing};
  if (entries.load() == nullptr)
    take_bus_errors();
  auto* place = entries.load();
  while (place != nullptr && place->begin.load() != 0)
    place = place->next;
  const bool fresh = place == nullptr;
  if (fresh)
    place = new (std::nothrow) entry;
  if (place == nullptr)
    return false;
  place->end.store(begin + bytes, std::memory_order_release);
  place->begin.store(begin, std::memory_order_release);
  if (fresh) {
    place->next = entries.load();
    entries.store(place, std::memory_order_release);
  }
  return true;
}

void leave(std::uintptr_t begin) {
  const std::lock_guard lock{changing};
  for (auto* each = entries.load(); each != nullptr; each = each->next)
    if (each->begin.load() == begin) {
      each->end.store(0, std::memory_order_release);
      each->begin.store(0, std::memory_order_release);
    }
}

} // namespace

protocols::result<mapped_file> mapped_file::map(int file, std::size_t bytes, access how) {
  const auto cannot = [](int why) {
    return protocols::fail(protocols::fault::no_memory, std::string{"cannot map: "} + std::strerror(why));
  };
  const bool writes = how == access::read_write; // and wants no page fault then
  const int allowed = writes ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const at = ::mmap(nullptr, bytes, allowed, writes ? MAP_SHARED | MAP_POPULATE : MAP_SHARED, file, 0);
  if (at == MAP_FAILED)
    return cannot(errno);
  mapped_file mapped;
  mapped.at_ = at;
  mapped.bytes_ = bytes;
  if (!enter(reinterpret_cast<std::uintptr_t>(at), bytes)) {
    ::munmap(std::exchange(mapped.at_, nullptr), bytes);
    return cannot(ENOMEM);
  }
  return mapped;
}

mapped_file::~mapped_file() {
  if (at_ == nullptr)
    return;
  leave(reinterpret_cast<std::uintptr_t>(at_));
  ::munmap(at_, bytes_);
}

} // namespace troupe::base
