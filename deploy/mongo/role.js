// The least that refitd needs, as two roles; run once, by a login that may create roles:
//
//     mongosh "mongodb://ADMIN@HOST/DATABASE?authSource=admin" deploy/mongo/role.js
//
// DATABASE is the one that holds the rows; the registry lies in its collections refitd.*. Then, in the same database:
//
//     db.createUser({user: "refitd", pwd: passwordPrompt(), roles: ["refitdDaemon"]})
//     db.createUser({user: "ada", pwd: passwordPrompt(), roles: ["refitdModels"]})
//
// refitdDaemon reads every collection of the database and writes none but refitd.*: it is for `refitd run` and for fits.
// refitdModels may read and write model documents, from any client: for people who add models. They may thereby learn what is in any
// collection of the database, by training on it. (`refitd add` and `refitd status` want the daemon's role: they also look at the rest of the registry.)

const daemon = [
  {"resource": {"db": db.getName(), "collection": ""}, "actions": ["find", "changeStream", "listCollections"]},
  {"resource": {"db": db.getName(), "collection": "refitd.models"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex", "collMod"]},
  {"resource": {"db": db.getName(), "collection": "refitd.pending"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.feeds"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.fits"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.versions"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.logs"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.meta"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex"]},
  {"resource": {"db": db.getName(), "collection": "refitd.artifacts.files"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex", "listIndexes"]},
  {"resource": {"db": db.getName(), "collection": "refitd.artifacts.chunks"}, "actions": ["insert", "update", "remove", "createCollection", "createIndex", "listIndexes"]}
];

const models = [
  {"resource": {"db": db.getName(), "collection": "refitd.models"}, "actions": ["find", "insert", "update", "remove"]}
];

db.createRole({role: "refitdDaemon", privileges: daemon, roles: []});
db.createRole({role: "refitdModels", privileges: models, roles: []});

// Optional, in the database admin, because it is about the server and not about one database. With it the daemon knows
// the replica set by its id rather than by its name, so that it notices one that was made anew under the old name; and `refitd doctor` sees the oplog.
//
//     use admin
//     db.createRole({role: "refitdSees", roles: [], privileges: [
//       {resource: {cluster: true}, actions: ["replSetGetConfig", "getParameter"]},
//       {resource: {db: "local", collection: "oplog.rs"}, actions: ["find", "collStats"]}]})
//     db.getSiblingDB("DATABASE").grantRolesToUser("refitd", [{role: "refitdSees", db: "admin"}])
