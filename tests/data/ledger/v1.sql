PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY,
    boot_id      TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    start_ns     INTEGER NOT NULL,
    job_id       TEXT    NOT NULL,
    found        TEXT    NOT NULL,
    mode         TEXT    NOT NULL,
    intent       TEXT    NOT NULL,
    sla_eligible INTEGER NOT NULL,
    class        TEXT    NOT NULL,
    rule         TEXT,
    tier         TEXT    NOT NULL,
    placement    TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    started_us   INTEGER NOT NULL,
    ended_us     INTEGER,
    closed       INTEGER NOT NULL CHECK (closed IN (0, 1)),
    view         TEXT    NOT NULL,
    UNIQUE (boot_id, pid, start_ns)
) STRICT;
INSERT INTO jobs VALUES(1,'6b117a4d-d5f4-404a-b3a2-1d0532419df1',10744,28876688399658,'auto-ffmpeg-saved-10744','exec','watch','production',0,'default','saved','kernel','observe','closed',1795287292266157,1795287292268652,1,'{"key":"10744-28876688399658","found":"exec","uid":0,"state":"closed","live":0,"report":{"job_id":"auto-ffmpeg-saved-10744","pid":10744,"mode":"watch","intent":"production","sla_eligible":false,"command":["./ffmpeg-saved","exit","3"],"start_time":"2026-11-21T18:54:52.266157816Z","end_time":"2026-11-21T18:54:52.26865258Z","duration_sec":0.002494764,"exit_code":3,"exit_reason":"error","exit":{"kind":"error","code":3},"signal":null,"killed_by":null,"platform_sla_compliant":true,"platform_sla_reason":"workload_failed_platform_ok","limits":{"asked":{},"applied":[],"warnings":[]},"usage":{"cpu_sec":0.000386991,"user_sec":null,"system_sec":null,"read_bytes":0,"write_bytes":0,"net_rx_bytes":null,"net_tx_bytes":null,"memory_peak_bytes":null,"processes":1,"voluntary_switches":0,"involuntary_switches":1,"throttled_sec":null,"absent":["user and system time: no clock tick fell into its life, so they cannot be told apart","network bytes: this version attaches no counter to a job","memory peak, throttling: the job has no group of its own"]},"energy":null,"tier":"kernel","placement":{"mode":"observe","groups":[],"placed_in_us":null,"not_placed":null},"rule":"saved","class":"default"}}');
INSERT INTO jobs VALUES(2,'6b117a4d-d5f4-404a-b3a2-1d0532419df1',10745,28876704949786,'auto-ffmpeg-saved-10745','exec','watch','production',0,'default','saved','kernel','observe','closed',1795287292282610,1795287292283959,1,'{"key":"10745-28876704949786","found":"exec","uid":0,"state":"closed","live":0,"report":{"job_id":"auto-ffmpeg-saved-10745","pid":10745,"mode":"watch","intent":"production","sla_eligible":false,"command":["./ffmpeg-saved","exit","0"],"start_time":"2026-11-21T18:54:52.282610408Z","end_time":"2026-11-21T18:54:52.283959893Z","duration_sec":0.001349485,"exit_code":0,"exit_reason":"success","exit":{"kind":"success"},"signal":null,"killed_by":null,"platform_sla_compliant":true,"platform_sla_reason":"observed_to_completion","limits":{"asked":{},"applied":[],"warnings":[]},"usage":{"cpu_sec":0.000314612,"user_sec":null,"system_sec":null,"read_bytes":0,"write_bytes":0,"net_rx_bytes":null,"net_tx_bytes":null,"memory_peak_bytes":null,"processes":1,"voluntary_switches":0,"involuntary_switches":1,"throttled_sec":null,"absent":["user and system time: no clock tick fell into its life, so they cannot be told apart","network bytes: this version attaches no counter to a job","memory peak, throttling: the job has no group of its own"]},"energy":null,"tier":"kernel","placement":{"mode":"observe","groups":[],"placed_in_us":null,"not_placed":null},"rule":"saved","class":"default"}}');
INSERT INTO jobs VALUES(3,'6b117a4d-d5f4-404a-b3a2-1d0532419df1',10746,28876735947035,'auto-ffmpeg-saved-10746','exec','watch','production',0,'default','saved','kernel','observe','observed',1795287292313939,NULL,0,'{"key":"10746-28876735947035","found":"exec","uid":0,"state":"observed","live":1,"report":{"job_id":"auto-ffmpeg-saved-10746","pid":10746,"mode":"watch","intent":"production","sla_eligible":false,"command":["./ffmpeg-saved","sleep-us","3000000"],"start_time":"2026-11-21T18:54:52.313939996Z","end_time":null,"duration_sec":null,"exit_code":null,"exit_reason":null,"exit":null,"signal":null,"killed_by":null,"platform_sla_compliant":null,"platform_sla_reason":null,"limits":{"asked":{},"applied":[],"warnings":[]},"usage":{"cpu_sec":null,"user_sec":null,"system_sec":null,"read_bytes":null,"write_bytes":null,"net_rx_bytes":null,"net_tx_bytes":null,"memory_peak_bytes":null,"processes":null,"voluntary_switches":null,"involuntary_switches":null,"throttled_sec":null,"absent":["cpu time, disk bytes, context switches, number of processes: summed up when the job''s processes end","network bytes: this version attaches no counter to a job","memory peak, throttling: the job has no group of its own"]},"energy":null,"tier":"kernel","placement":{"mode":"observe","groups":[],"placed_in_us":null,"not_placed":null},"rule":"saved","class":"default"}}');
CREATE TABLE processes (
    job      INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    pid      INTEGER NOT NULL,
    start_ns INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    command  TEXT,
    PRIMARY KEY (job, pid, start_ns)
) STRICT, WITHOUT ROWID;
INSERT INTO processes VALUES(1,10744,28876688399658,0,'["./ffmpeg-saved","exit","3"]');
INSERT INTO processes VALUES(2,10745,28876704949786,0,'["./ffmpeg-saved","exit","0"]');
INSERT INTO processes VALUES(3,10746,28876735947035,0,'["./ffmpeg-saved","sleep-us","3000000"]');
CREATE TABLE exits (
    job           INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    exit_code     INTEGER,
    exit_reason   TEXT NOT NULL,
    signal        INTEGER,
    killed_by     TEXT,
    sla_compliant INTEGER,
    sla_reason    TEXT
) STRICT;
INSERT INTO exits VALUES(1,3,'error',NULL,NULL,1,'workload_failed_platform_ok');
INSERT INTO exits VALUES(2,0,'success',NULL,NULL,1,'observed_to_completion');
CREATE TABLE usage (
    job                  INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    cpu_sec              REAL,
    user_sec             REAL,
    system_sec           REAL,
    read_bytes           INTEGER,
    write_bytes          INTEGER,
    net_rx_bytes         INTEGER,
    net_tx_bytes         INTEGER,
    memory_peak_bytes    INTEGER,
    processes            INTEGER,
    voluntary_switches   INTEGER,
    involuntary_switches INTEGER,
    throttled_sec        REAL
) STRICT;
INSERT INTO usage VALUES(1,0.00038699099999999999515,NULL,NULL,0,0,NULL,NULL,NULL,1,0,1,NULL);
INSERT INTO usage VALUES(2,0.00031461199999999997544,NULL,NULL,0,0,NULL,NULL,NULL,1,0,1,NULL);
INSERT INTO usage VALUES(3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE warnings (
    job  INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    seq  INTEGER NOT NULL,
    text TEXT    NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('boot_id','6b117a4d-d5f4-404a-b3a2-1d0532419df1');
CREATE INDEX jobs_by_label ON jobs (job_id, id);
CREATE INDEX jobs_open ON jobs (boot_id) WHERE closed = 0;
CREATE INDEX jobs_by_end ON jobs (coalesce(ended_us, started_us)) WHERE closed = 1;
COMMIT;
