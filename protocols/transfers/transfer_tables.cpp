#include "protocols/transfers/transfer_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto slot_pool_rows = std::to_array<table_row>({
    {"-", "acquire fail release tick", "-"},
});
constexpr state_table slot_pool_table{"slot_pool_machine", "", "-", slot_pool_rows};

static constexpr auto block_pool_rows = std::to_array<table_row>({
    {"-", "reserve", "-"},
    {"-", "release", "- refused"},
});
constexpr state_table block_pool_table{"block_pool_machine", "", "-", block_pool_rows};

static constexpr auto lent_rooms_rows = std::to_array<table_row>({
    {"none", "lend", "holds"},
    {"holds", "on_arrived", "none holds"},
    {"holds", "on_gone on_returned", "none holds rests"},
    {"holds", "end lend on_tick take_quiet", "holds"},
    {"holds", "on_lost", "holds lost"},
    {"lost", "on_arrived", "none lost"},
    {"lost", "on_gone", "none lost rests"},
    {"lost", "end lend on_lost on_returned on_tick take_quiet", "lost"},
    {"rests", "on_tick", "none rests"},
    {"rests", "end lend on_arrived on_gone on_lost on_returned take_quiet", "rests"},
});
constexpr state_table lent_rooms_table{"lent_rooms", "writer of a room", "none holds lost rests", lent_rooms_rows};

static constexpr auto held_grants_rows = std::to_array<table_row>({
    {"none", "take", "not_yet"},
    {"not_yet", "take", "not_yet"},
    {"not_yet", "on_lost on_revoke", "not_yet ended"},
    {"not_yet", "end_unused", "ended"},
    {"on_its_way", "end_unused on_lost on_revoke take", "on_its_way"},
    {"on_its_way", "on_written", "on_its_way delivered ended"},
    {"delivered", "end_unused on_lost on_revoke on_written take", "delivered"},
    {"ended", "end_unused on_lost on_revoke on_written take", "ended"},
});
constexpr state_table held_grants_table{"held_grants", "grant", "none not_yet on_its_way delivered ended",
                                        held_grants_rows};

static constexpr auto way_machine_rows = std::to_array<table_row>({
    {"closed", "on_broken on_given_up", "closed"},
    {"closed", "on_knocked", "knocking"},
    {"closed", "on_lost", "lost"},
    {"knocking", "on_given_up", "closed"},
    {"knocking", "on_admitted", "connecting"},
    {"connecting", "on_given_up", "closed"},
    {"connecting", "on_open", "open"},
    {"open", "on_broken", "closed"},
    {"lost", "on_broken", "lost"},
});
constexpr state_table way_machine_table{"way_machine", "", "closed knocking connecting open lost", way_machine_rows};

} // namespace troupe::protocols
