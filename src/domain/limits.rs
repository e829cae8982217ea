//! Every limit on sizes, counts and depths. The same table stands in `docs/limits.md`.

/// Bytes in the key of a project, environment, segment, variant, rule, experiment, layer or metric.
pub const KEY_BYTES: usize = 63;
/// Bytes in the key of a flag.
pub const FLAG_KEY_BYTES: usize = 128;
/// Characters in a name or an owner.
pub const NAME_CHARS: usize = 200;
/// Characters in a description.
pub const DESCRIPTION_CHARS: usize = 4_000;
/// Tags of a flag.
pub const TAGS: usize = 20;
/// Characters in a tag.
pub const TAG_CHARS: usize = 63;
/// Prerequisites of a configuration.
pub const PREREQUISITES: usize = 20;
/// Flags that the prerequisites of one flag ask, theirs included: what one evaluation may cost.
pub const PREREQUISITE_EVALUATIONS: usize = 256;
/// Flags after each other that an explanation tells, each the prerequisite of the one before: readers of protobuf go no deeper than
/// 100 messages within each other.
pub const EXPLANATION_DEPTH: usize = 16;
/// Bytes of a context that an explanation repeats.
pub const EXPLANATION_VALUE_BYTES: usize = 256 * 1024;
/// Rules, conditions, segments and shares that an explanation tells.
pub const EXPLANATION_ENTRIES: usize = 2_000;
/// Variants of a flag.
pub const VARIANTS: usize = 100;
/// Rules of a configuration.
pub const RULES: usize = 200;
/// Conditions of a rule.
pub const CONDITIONS: usize = 50;
/// Values of a condition.
pub const CONDITION_VALUES: usize = 10_000;
/// Characters in an attribute's name or path.
pub const ATTRIBUTE_CHARS: usize = 256;
/// Regular expressions in all conditions of a configuration.
pub const PATTERNS: usize = 100;
/// Bytes in a regular expression.
pub const PATTERN_BYTES: usize = 1_000;
/// Bytes that a regular expression may take when it is compiled.
pub const PATTERN_COMPILED_BYTES: usize = 256 * 1024;
/// Bytes in a targeting key, of a context and of a segment.
pub const TARGETING_KEY_BYTES: usize = 1_000;
/// Targeting keys that a segment includes or excludes by name.
pub const SEGMENT_NAMED_KEYS: usize = 1_000;
/// Segments that a segment is made of.
pub const SEGMENT_PARTS: usize = 50;
/// Segments that asking for one asks, theirs included: what one evaluation may cost.
pub const SEGMENT_EVALUATIONS: usize = 256;
/// Targeting keys in the uploaded list of a segment.
pub const SEGMENT_KEYS: usize = 1_000_000;
/// Bytes of all targeting keys in the uploaded list of a segment.
pub const SEGMENT_LIST_BYTES: usize = 64 * 1024 * 1024;
/// Bytes in the stored form of one chunk of a segment's list.
pub const SEGMENT_CHUNK_BYTES: usize = 32 * 1024;
/// Pieces of one upload of a segment's list.
pub const SEGMENT_UPLOAD_PIECES: usize = 1_000;
/// Segments that the conditions of one configuration ask about, those asked again counted again.
pub const SEGMENT_QUESTIONS: usize = 100;
/// Uploads of a project that are neither activated nor expired: what may be put aside.
pub const SEGMENT_UPLOADS: usize = 20;
/// Targeting keys in the uploaded lists of an environment: every replica holds them in memory.
pub const ENVIRONMENT_LISTED_KEYS: usize = 4_000_000;
/// Segments of a project.
pub const SEGMENTS: usize = 1_000;
/// Experiments of an environment that are not stopped.
pub const EXPERIMENTS: usize = 1_000;
/// Experiments on one flag in an environment that are not stopped: what one evaluation may cost.
pub const FLAG_EXPERIMENTS: usize = 20;
/// Layers of an environment.
pub const LAYERS: usize = 100;
/// Guardrail metrics of an experiment.
pub const GUARDRAIL_METRICS: usize = 20;
/// Bytes of a unit that is stored as it is; of a longer one its hash is.
pub const UNIT_BYTES: usize = 1_000;
/// Characters in a salt.
pub const SALT_CHARS: usize = 100;
/// The largest sum of a split's weights.
pub const TOTAL_WEIGHT: u64 = (1 << 31) - 1;
/// Bytes in the stored form of one item.
pub const FORM_BYTES: usize = 256 * 1024;
/// Levels of lists and objects in a context's attributes and in an object variant.
pub const DEPTH: usize = 16;
/// Bytes of text in a context: the targeting key, and the names and texts of attributes.
pub const CONTEXT_BYTES: usize = 64 * 1024;
/// Attribute values of a context, nested ones included.
pub const CONTEXT_VALUES: usize = 10_000;
/// Flags that one evaluation request may name.
pub const EVALUATED_FLAGS: usize = 10_000;
/// Calls in flight at one server, unless it is set otherwise; streams are not among them.
pub const REQUESTS: usize = 10_000;
/// Streams open at one server, unless it is set otherwise.
pub const STREAMS: usize = 50_000;
/// Streams that one environment key has open at one server, unless it is set otherwise: one application must not take all.
pub const KEY_STREAMS: usize = 25_000;
/// Places that a replica counts its streams at, when it says how far a change has spread.
pub const PROPAGATION_POSITIONS: usize = 256;
/// Streams that are named as being behind.
pub const PROPAGATION_LISTED: usize = 100;
/// Acknowledgements of streams at other replicas that a replica keeps until it has told them.
pub const PROPAGATION_ELSEWHERE: usize = 10_000;
/// Those of them that were shown with one key.
pub const PROPAGATION_ELSEWHERE_OF_KEY: usize = 2_500;
/// Bytes that the questions of all streams of answers take at one server: contexts and names of flags.
pub const QUESTION_BYTES: usize = 512 * 1024 * 1024;
/// Those of one key's streams.
pub const KEY_QUESTION_BYTES: usize = 128 * 1024 * 1024;
/// Toggles of one request.
pub const TOGGLES: usize = 1_000;
/// Flags of a project, archived ones included.
pub const FLAGS: usize = 10_000;
/// Environments of a project.
pub const ENVIRONMENTS: usize = 100;
/// Keys of an environment that are neither revoked nor expired.
pub const KEYS: usize = 100;
/// Hours that both secrets of a rotated key work, at most.
pub const ROTATION_OVERLAP_HOURS: usize = 30 * 24;
/// Projects that a user may own who is not an administrator of the installation; who owns as many creates none.
pub const OWNED_PROJECTS: usize = 1_000;
/// Members of a project.
pub const MEMBERS: usize = 1_000;
/// Invitations to a project that can still be accepted.
pub const INVITATIONS: usize = 100;
/// Days until an invitation expires, at most.
pub const INVITATION_DAYS: usize = 30;
/// Service tokens of a project that are neither revoked nor expired.
pub const SERVICE_TOKENS: usize = 100;
/// Entries of a page.
pub const PAGE_SIZE: usize = 1_000;
/// Entries of a page when the caller does not say.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// Revisions of a page.
pub const REVISIONS_PAGE_SIZE: usize = 100;
/// Revisions of a page when the caller does not say.
pub const DEFAULT_REVISIONS_PAGE_SIZE: usize = 20;
/// Bytes of stored forms after which a page of revisions ends, with the revision that exceeds them.
pub const REVISIONS_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of what audit entries show after which a page of them ends, with the entry that exceeds them.
pub const AUDIT_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// Flags whose answers at a past revision one request may have explained.
pub const EXPLAINED_FLAGS: usize = 100;
/// Bytes in a request message.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// The same of the services that anybody may call: logins and the like, health, reflection.
pub const OPEN_REQUEST_BYTES: usize = 64 * 1024;
/// Violations listed in one error; trailers are limited to about 8 KiB in many clients.
pub const VIOLATIONS: usize = 20;
/// Characters in the reason given for a change.
pub const REASON_CHARS: usize = 500;
/// Bytes in a password: enough for any passphrase, too few to make hashing a burden.
pub const PASSWORD_BYTES: usize = 1_024;
/// Characters that a new password must have at least.
pub const PASSWORD_MIN_CHARS: usize = 12;
/// Seconds for which an access token works.
pub const ACCESS_TOKEN_SECONDS: u32 = 15 * 60;
/// Seconds after its last use for which a session can be refreshed.
pub const SESSION_IDLE_SECONDS: u32 = 14 * 24 * 60 * 60;
/// Seconds after its login for which a session can be refreshed.
pub const SESSION_SECONDS: u32 = 90 * 24 * 60 * 60;
/// Seconds within which a refresh token that was used already is taken for a race of two clients, not for theft.
pub const REFRESH_RACE_SECONDS: u32 = 10;
/// Sessions of a user; the one least recently used makes room for a new one.
pub const SESSIONS: usize = 100;
/// Bytes in an e-mail address: what RFC 5321 leaves of a path.
pub const EMAIL_BYTES: usize = 254;
/// Bytes in a token of an OpenID Connect issuer: some name every group that a person is in.
pub const OPENID_TOKEN_BYTES: u32 = 16 * 1024;
/// Bytes in the URL of an OpenID Connect issuer.
pub const ISSUER_BYTES: usize = 512;
/// Bytes with which an OpenID Connect issuer names a person: as many as the standard allows.
pub const SUBJECT_BYTES: usize = 255;
/// Bytes in an answer of an OpenID Connect issuer, which says where its keys are, or which they are.
pub const ISSUER_ANSWER_BYTES: usize = 256 * 1024;
/// Keys of an OpenID Connect issuer; further ones are not looked at.
pub const ISSUER_KEYS: usize = 64;
/// Identities of an account at OpenID Connect issuers.
pub const IDENTITIES: usize = 10;
/// Events of one batch.
pub const EVENTS: usize = 1_000;
/// Seconds by which the clock of who tells an event may be ahead.
pub const EVENT_AHEAD_SECONDS: u64 = 5 * 60;
/// How far from 0 the value of a metric event may be.
pub const METRIC_VALUE: u64 = 1_000_000_000_000_000;
/// Places behind the point of the smallest value of a metric event that is not 0.
pub const METRIC_VALUE_PLACES: usize = 15;
