#include "protocols/cluster/cluster_states.hpp"

#include <array>

namespace troupe::protocols {

static constexpr auto life_rows = std::to_array<table_row>({
    {"starting", "on_bad_frame on_complaint on_control_lost on_error on_joined", "starting"},
    {"starting", "on_progress", "starting ready"},
    {"starting", "on_agree on_end on_tick", "starting aborting"},
    {"starting", "on_stop", "draining"},
    {"starting", "on_silent", "aborting"},
    {"ready", "on_bad_frame on_complaint on_control_lost on_error on_unsent", "ready"},
    {"ready", "on_tick", "ready recovering aborting"},
    {"ready", "on_end", "ready recovering aborting ended"},
    {"ready", "on_silent", "recovering aborting"},
    {"ready", "on_stop", "draining"},
    {"ready", "on_unstartable", "aborting"},
    {"recovering", "on_progress", "ready recovering"},
    {"recovering", "on_bad_frame on_complaint on_control_lost on_error on_joined on_rejoined", "recovering"},
    {"recovering", "on_agree on_end on_silent on_tick", "recovering aborting"},
    {"recovering", "on_stop", "draining"},
    {"recovering", "on_unstartable", "aborting"},
    {"draining", "on_complaint on_control_lost on_error on_joined on_progress", "draining"},
    {"draining", "on_stop", "draining aborting"},
    {"draining", "on_tick", "draining aborting killing"},
    {"draining", "on_end", "draining aborting ended"},
    {"draining", "on_silent on_unstartable", "aborting"},
    {"aborting",
     "on_agree on_bad_frame on_complaint on_control_lost on_error on_joined on_progress on_rejoined on_silent on_stop",
     "aborting"},
    {"aborting", "on_tick", "aborting killing"},
    {"aborting", "on_end", "aborting ended"},
    {"killing", "on_agree on_control_lost on_error on_joined on_progress on_silent", "killing"},
    {"killing", "on_end on_tick", "killing ended"},
    {"ended", "on_tick", "ended"},
});
constexpr state_table life_table{"life_machine", "", "starting ready recovering draining aborting killing ended",
                                 life_rows};

static constexpr auto life_rank_rows = std::to_array<table_row>({
    {"spawned", "on_bad_frame on_control_lost on_error on_silent on_stop on_tick", "spawned"},
    {"spawned", "on_joined", "spawned joined"},
    {"spawned", "on_end", "spawned left failed"},
    {"spawned", "on_agree", "refused"},
    {"joined", "on_end", "spawned left failed"},
    {"joined", "on_bad_frame on_complaint on_control_lost on_error on_silent on_stop on_tick", "joined"},
    {"joined", "on_agree", "joined agreed"},
    {"joined", "on_progress", "joined refused"},
    {"joined", "on_joined", "refused"},
    {"agreed", "on_end", "spawned left failed"},
    {"agreed", "on_complaint on_control_lost on_error on_silent on_stop on_tick", "agreed"},
    {"agreed", "on_progress", "agreed grouped"},
    {"grouped", "on_end", "spawned left failed"},
    {"grouped", "on_complaint on_control_lost on_error on_silent on_tick", "grouped"},
    {"grouped", "on_progress", "grouped warm refused"},
    {"warm", "on_end", "spawned left failed"},
    {"warm", "on_complaint on_control_lost on_error on_silent on_tick", "warm"},
    {"warm", "on_progress", "warm ready"},
    {"ready", "on_end", "spawned left failed"},
    {"ready",
     "on_bad_frame on_complaint on_control_lost on_error on_rejoined on_silent on_stop on_tick on_unsent "
     "on_unstartable",
     "ready"},
    {"ready", "on_progress", "draining"},
    {"draining", "on_end", "spawned left failed"},
    {"left", "on_tick", "left"},
    {"failed", "on_end", "spawned"},
    {"failed", "on_tick", "spawned failed"},
    {"failed", "on_stop", "failed"},
});
constexpr state_table life_rank_table{"life_machine", "rank",
                                      "spawned joined agreed grouped warm ready draining left failed", life_rank_rows};

static constexpr auto life_admission_rows = std::to_array<table_row>({
    {"none", "on_bad_frame on_complaint on_control_lost on_end on_error on_rejoined on_silent on_unsent on_unstartable",
     "none"},
    {"none", "on_agree", "none ordered refused"},
    {"none", "on_joined on_progress", "none refused"},
    {"ordered", "on_end on_silent on_tick", "none ordered"},
    {"ordered", "on_complaint on_control_lost on_error", "ordered"},
    {"ordered", "on_rejoined", "ordered begun done"},
    {"begun", "on_end on_silent on_tick", "none begun"},
    {"begun", "on_complaint on_control_lost", "begun"},
    {"begun", "on_error", "begun has_refused"},
    {"begun", "on_rejoined", "done"},
    {"has_refused", "on_silent", "none"},
    {"has_refused", "on_end on_tick", "none has_refused"},
    {"has_refused", "on_control_lost on_error", "has_refused"},
    {"done", "on_end on_silent on_tick", "none done"},
    {"done", "on_complaint on_control_lost on_error on_stop", "done"},
});
constexpr state_table life_admission_table{"life_machine", "rank that stays", "none ordered begun has_refused done",
                                           life_admission_rows};

static constexpr auto rank_life_rows = std::to_array<table_row>({
    {"spawned", "on_inbox on_launch", "spawned"},
    {"spawned", "on_reached", "joined refused"},
    {"spawned", "on_shutdown", "draining"},
    {"spawned", "on_failed", "failed"},
    {"spawned", "on_left on_proceed on_roster on_verdict", "refused"},
    {"joined", "on_inbox", "joined"},
    {"joined", "on_roster", "to_agreed"},
    {"joined", "on_shutdown", "draining"},
    {"joined", "on_failed", "failed"},
    {"joined", "on_left on_proceed on_reached on_verdict", "refused"},
    {"to_agreed", "on_inbox", "to_agreed"},
    {"to_agreed", "on_verdict", "agreed failed"},
    {"to_agreed", "on_shutdown", "draining"},
    {"to_agreed", "on_failed", "failed"},
    {"to_agreed", "on_left on_proceed on_reached on_roster", "refused"},
    {"agreed", "on_inbox", "agreed"},
    {"agreed", "on_proceed", "to_grouped refused"},
    {"agreed", "on_shutdown", "draining"},
    {"agreed", "on_failed", "failed"},
    {"agreed", "on_left on_reached on_roster on_verdict", "refused"},
    {"to_grouped", "on_inbox", "to_grouped"},
    {"to_grouped", "on_reached", "grouped refused"},
    {"to_grouped", "on_shutdown", "draining"},
    {"to_grouped", "on_failed", "failed"},
    {"to_grouped", "on_left on_proceed on_roster on_verdict", "refused"},
    {"grouped", "on_inbox", "grouped"},
    {"grouped", "on_proceed", "to_warm refused"},
    {"grouped", "on_shutdown", "draining"},
    {"grouped", "on_failed", "failed"},
    {"grouped", "on_left on_reached on_roster on_verdict", "refused"},
    {"to_warm", "on_inbox", "to_warm"},
    {"to_warm", "on_reached", "warm refused"},
    {"to_warm", "on_shutdown", "draining"},
    {"to_warm", "on_failed", "failed"},
    {"to_warm", "on_left on_proceed on_roster on_verdict", "refused"},
    {"warm", "on_inbox", "warm"},
    {"warm", "on_proceed", "to_ready refused"},
    {"warm", "on_shutdown", "draining"},
    {"warm", "on_failed", "failed"},
    {"warm", "on_left on_reached on_roster on_verdict", "refused"},
    {"to_ready", "on_inbox", "to_ready"},
    {"to_ready", "on_reached", "ready refused"},
    {"to_ready", "on_shutdown", "draining"},
    {"to_ready", "on_failed", "failed"},
    {"to_ready", "on_left on_proceed on_roster on_verdict", "refused"},
    {"ready", "on_inbox on_rejoin", "ready"},
    {"ready", "on_shutdown", "draining"},
    {"ready", "on_failed", "failed"},
    {"ready", "on_left on_proceed on_reached on_roster on_verdict", "refused"},
    {"draining", "on_inbox on_reached on_rejoin on_shutdown", "draining"},
    {"draining", "on_left", "left"},
    {"draining", "on_failed", "failed"},
    {"draining", "on_proceed on_roster on_verdict", "refused"},
    {"left", "on_inbox", "left"},
    {"left", "on_left on_proceed on_reached on_roster on_shutdown on_verdict", "refused"},
    {"failed", "on_failed on_inbox", "failed"},
    {"failed", "on_left on_proceed on_reached on_roster on_shutdown on_verdict", "refused"},
});
constexpr state_table rank_life_table{
    "rank_life_machine", "",
    "spawned joined to_agreed agreed to_grouped grouped to_warm warm to_ready ready draining left failed",
    rank_life_rows};

static constexpr auto parity_rows = std::to_array<table_row>({
    {"missing", "forget", "missing"},
    {"missing", "on_agree", "missing stated"},
    {"stated", "forget", "missing"},
    {"stated", "on_agree", "refused"},
});
constexpr state_table parity_table{"parity_machine", "rank", "missing stated", parity_rows};

static constexpr auto first_cause_rows = std::to_array<table_row>({
    {"looking", "begin_anew on_error", "looking"},
    {"looking", "conclude on_end on_tick", "looking found"},
    {"found", "begin_anew", "looking"},
    {"found", "conclude on_end on_tick", "found"},
});
constexpr state_table first_cause_table{"first_cause_machine", "", "looking found", first_cause_rows};

static constexpr auto restart_rows = std::to_array<table_row>({
    {"-", "allow", "-"},
});
constexpr state_table restart_table{"restart_machine", "", "-", restart_rows};

static constexpr auto liveness_rows = std::to_array<table_row>({
    {"-", "on_sample", "-"},
});
constexpr state_table liveness_table{"liveness_judge", "", "-", liveness_rows};

static constexpr auto edge_rows = std::to_array<table_row>({
    {"-", "on_begun on_lost on_rejoin on_roster on_unmade", "-"},
});
constexpr state_table edge_table{"edge_machine", "", "-", edge_rows};

static constexpr auto epoch_fence_rows = std::to_array<table_row>({
    {"-", "on_lost", "-"},
});
constexpr state_table epoch_fence_table{"epoch_fence", "", "-", epoch_fence_rows};

} // namespace troupe::protocols
