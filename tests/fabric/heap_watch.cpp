#include "tests/fabric/heap_watch.hpp"

#include <malloc.h>

#include <cstdlib>
#include <new>

void* operator new(std::size_t size) {
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr)
    throw std::bad_alloc{};
  heap.took(::malloc_usable_size(memory));
  return memory;
}
void operator delete(void* memory) noexcept {
  heap.gave(::malloc_usable_size(memory));
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  operator delete(memory);
}
