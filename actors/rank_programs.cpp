#include <map>
#include <string>

#include "actors/rank_program.hpp"
#include "actors/serve/serve_rank.hpp"

namespace troupe::actors {

namespace {

std::map<std::string, rank_program_factory, std::less<>>& factories() {
  static std::map<std::string, rank_program_factory, std::less<>> all{{"serve", &make_serve_rank}};
  return all;
}

} // namespace

rank_program_factory find_rank_program(std::string_view program) noexcept {
  const auto found = factories().find(program);
  return found == factories().end() ? nullptr : found->second;
}

void add_rank_program(std::string_view program, rank_program_factory factory) {
  factories().emplace(program, factory);
}

} // namespace troupe::actors
