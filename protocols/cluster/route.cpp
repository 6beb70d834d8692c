#include "protocols/cluster/route.hpp"

#include <algorithm>
#include <iterator>

#include "protocols/cluster/program.hpp"

namespace troupe::protocols {

namespace {

bool joins(const route& row, const cluster_plan& plan, rank_id from, rank_id to) {
  if (row.within == reach::own_cell)
    return std::ranges::any_of(plan.cells, [&](const cell_plan& cell) {
      return stands_at(cell, from, row.from) && stands_at(cell, to, row.to);
    });
  return stands_at(plan, from, row.from) && stands_at(plan, to, row.to);
}

std::string words_of(const program& of, const station& where) {
  std::string role{name(where.role)};
  if (of.row(where.role).one_rank)
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

bool stands_at(const cluster_plan& plan, rank_id rank, const station& where) {
  return std::ranges::any_of(plan.cells, [&](const cell_plan& cell) { return stands_at(cell, rank, where); });
}

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

std::vector<rank_id> ranks_at(const cluster_plan& plan, const station& where) {
  std::vector<rank_id> found;
  for (const auto id : plan.cells_of(where.role))
    std::ranges::copy_if(plan.cell(id).ranks, std::back_inserter(found),
                         [&](rank_id rank) { return stands_at(plan.cell(id), rank, where); });
  return found;
}

role_set takers_of(const cluster_plan& plan, message_type message, rank_id from, rank_id to,
                   std::optional<role_kind> as) {
  role_set takers;
  for (const auto& row : plan.of->routes)
    if (row.message == message && (!as || *as == row.from.role) && joins(row, plan, from, to))
      takers.add(row.to.role);
  return takers;
}

std::string describe_routes(const program& of) {
  std::string text = "| message | from | to | of |\n| --- | --- | --- | --- |\n";
  for (const auto& row : of.routes)
    text += "| `" + std::string{name(row.message)} + "` | " + words_of(of, row.from) + " | " + words_of(of, row.to) +
            " | " + (row.within == reach::own_cell ? "its own cell" : "any cell") + " |\n";
  return text;
}

} // namespace troupe::protocols
