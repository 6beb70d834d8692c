#include "protocols/serve/routes.hpp"

namespace troupe::protocols {

namespace {

bool stands_at(const cell_plan& cell, rank_id rank, const station& where) {
  if (cell.role != where.role)
    return false;
  switch (where.at) {
  case seat::leader:
    return cell.leader() == rank;
  case seat::worker:
    return cell.leader() != rank && cell.place_of(rank).has_value();
  case seat::any:
    return cell.place_of(rank).has_value();
  }
  return false;
}

bool joins(const route& row, const cluster_plan& plan, rank_id from, rank_id to) {
  const auto some_cell = [&](auto holds) { return std::ranges::any_of(plan.cells, holds); };
  if (row.within == reach::own_cell)
    return some_cell(
        [&](const cell_plan& cell) { return stands_at(cell, from, row.from) && stands_at(cell, to, row.to); });
  return some_cell([&](const cell_plan& cell) { return stands_at(cell, from, row.from); }) &&
         some_cell([&](const cell_plan& cell) { return stands_at(cell, to, row.to); });
}

std::string words_of(const station& where) {
  std::string role{name(where.role)};
  if (where.role == role_kind::front)
    return role;
  switch (where.at) {
  case seat::leader:
    return role + " leader";
  case seat::worker:
    return role + " worker";
  case seat::any:
    return role + " rank";
  }
  return role;
}

} // namespace

role_set takers_of(const cluster_plan& plan, message_type message, rank_id from, rank_id to,
                   std::optional<role_kind> as) {
  role_set takers;
  for (const auto& row : routes)
    if (row.message == message && (!as || *as == row.from.role) && joins(row, plan, from, to))
      takers.add(row.to.role);
  return takers;
}

std::string describe_routes() {
  std::string text = "| message | from | to | of |\n| --- | --- | --- | --- |\n";
  for (const auto& row : routes)
    text += "| `" + std::string{name(row.message)} + "` | " + words_of(row.from) + " | " + words_of(row.to) + " | " +
            (row.within == reach::own_cell ? "its own cell" : "any cell") + " |\n";
  return text;
}

} // namespace troupe::protocols
