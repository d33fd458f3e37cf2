//! What `steerctl` prints: the JSON that scripts rely on, and tables for people.
//! Pure: reports come in, text goes out.
